"""The built-in guide model as tests need it: its file, and a question without an end."""

from importlib.resources import files
from pathlib import Path

from chatsafe_config.gguf import read_header

GUIDE = Path(str(files("chatsafe_guide_model"))) / "chatsafe-guide.gguf"


def endless_chat(**fields: object) -> dict[str, object]:
    """A streamed chat that only a limit ends: the end tokens (last three ids) are banned."""
    size = read_header(GUIDE).vocab_size
    return {
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "temperature": 0,
        "logit_bias": {str(token): -100 for token in range(size - 3, size)},
        "stream": True,
        **fields,
    }
