"""The network: the llama architecture in PyTorch, as small as the task allows.

RMSNorm, SwiGLU, grouped-query attention, interleaved rotary positions (the order in which
llama.cpp rotates this architecture), one matrix for embedding and output. The intent head
exists only in training: it reads the last prompt position and names the intent.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Shape:
    """All sizes of the network; rows must be multiples of 32 for Q8_0."""

    vocabulary: int
    width: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    hidden: int = 704
    context: int = 2048
    rope_base: float = 10_000.0
    epsilon: float = 1e-5

    def as_dict(self) -> dict[str, float]:
        """For the checkpoint."""
        return asdict(self)


class Norm(nn.Module):
    """Root-mean-square normalization with a gain."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each neighbouring pair of channels by its position's angle. x: B, T, heads, size."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention. B, heads, T, size.

    The fused CPU kernel's backward pass takes a quarter of a step on short rows (measured at
    T = 20 to 100), so those are written out.
    """
    length = q.shape[2]
    if length > 160:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    future = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + future
    return scores.softmax(-1).to(v.dtype) @ v


class Block(nn.Module):
    """Attention and feed-forward, each after its norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, size = shape.width, shape.width // shape.heads
        self.heads, self.kv_heads, self.size = shape.heads, shape.kv_heads, size
        self.attn_norm = Norm(width, shape.epsilon)
        self.attn_q = nn.Linear(width, shape.heads * size, bias=False)
        self.attn_k = nn.Linear(width, shape.kv_heads * size, bias=False)
        self.attn_v = nn.Linear(width, shape.kv_heads * size, bias=False)
        self.attn_output = nn.Linear(shape.heads * size, width, bias=False)
        self.ffn_norm = Norm(width, shape.epsilon)
        self.ffn_gate = nn.Linear(width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, dropout: float) -> Tensor:
        batch, length, _ = x.shape
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(batch, length, self.heads, self.size), cos, sin)
        k = rotate(self.attn_k(h).view(batch, length, self.kv_heads, self.size), cos, sin)
        v = self.attn_v(h).view(batch, length, self.kv_heads, self.size)
        repeat = self.heads // self.kv_heads
        k, v = k.repeat_interleave(repeat, 2), v.repeat_interleave(repeat, 2)
        mixed = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        mixed = self.attn_output(mixed.transpose(1, 2).reshape(batch, length, -1))
        x = x + F.dropout(mixed, dropout, self.training)
        h = self.ffn_norm(x)
        h = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + F.dropout(h, dropout, self.training)


class Guide(nn.Module):
    """The whole network. `forward` gives the final hidden states; `logits` reads words off them."""

    def __init__(self, shape: Shape, intents: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.epsilon)
        self.intent_head = nn.Linear(shape.width, intents)
        size = shape.width // shape.heads
        frequency = shape.rope_base ** (-torch.arange(0, size, 2).double() / size)
        angle = torch.arange(shape.context).double()[:, None] * frequency
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # residual outputs start smaller so that depth does not grow the stream
                deep = name.endswith(("attn_output.weight", "ffn_down.weight"))
                std = 0.02 if name.startswith("token_embd") else shape.width**-0.5
                nn.init.normal_(weight, std=std * ((2 * shape.layers) ** -0.5 if deep else 1.0))

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        x = self.token_embd(ids)
        cos = self.cos[positions][:, :, None].to(x.dtype)
        sin = self.sin[positions][:, :, None].to(x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin, self.dropout)
        return self.output_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all tokens for the given hidden states."""
        return hidden @ self.token_embd.weight.T.to(hidden.dtype)
