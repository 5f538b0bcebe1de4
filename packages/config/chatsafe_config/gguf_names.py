"""The names inside GGUF files that we know: architectures, tokenizers, file types."""

# Decoder-only text models that the engine reads and that chat with the tokenizers below. Encoders
# (bert, t5encoder), speech and draft-only models (eagle3) answer no chats and are left out.
ARCHITECTURES = frozenset({
    "afmoe", "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet",
    "bloom", "chatglm", "cohere2", "command-r", "dbrx", "deci", "deepseek", "deepseek2", "dots1",
    "ernie4_5", "ernie4_5-moe", "exaone", "exaone-moe", "exaone4", "falcon", "falcon-h1",
    "gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "glm4", "glm4moe", "gpt-oss", "gpt2",
    "gptneox", "granite", "granitehybrid", "granitemoe", "grok", "grovemoe", "hunyuan-dense",
    "hunyuan-moe", "internlm2", "jais", "jamba", "lfm2", "lfm2moe", "llama", "llama4", "mamba",
    "mamba2", "minicpm", "minicpm3", "minimax-m2", "mistral3", "mistral4", "mpt", "nemotron",
    "nemotron_h", "olmo", "olmo2", "olmoe", "openelm", "orion", "phi2", "phi3", "phimoe", "plm",
    "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen35", "qwen35moe", "qwen3moe",
    "qwen3next", "qwen3vl", "qwen3vlmoe", "refact", "seed_oss", "smallthinker", "smollm3",
    "stablelm", "starcoder", "starcoder2", "xverse",
})  # fmt: skip
# No attention heads in some or all of their layers.
RECURRENT = frozenset({"mamba", "mamba2", "jamba", "falcon-h1", "granitehybrid", "nemotron_h"})
# SentencePiece and byte-level BPE: every architecture above uses one of the two. WordPiece (bert)
# and Unigram (t5) belong to encoders, and the rwkv tokenizer to an architecture we do not template.
TOKENIZERS = frozenset({"llama", "gpt2"})

# llama.cpp's numbers for the mix of tensor types in a file.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0",
    38: "MXFP4", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
