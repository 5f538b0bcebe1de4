"""The tensor table of a GGUF header: sizes by type, and that the tensors lie inside the file."""

from dataclasses import dataclass

from chatsafe_config.errors import GgufError
from chatsafe_config.gguf_reader import HeaderReader

MAX_TENSORS = 65_536
# ggml's own limits: names of 63 bytes and a zero, four dimensions.
MAX_NAME_BYTES = 63
MAX_DIMENSIONS = 4
_MAX_ELEMENTS = 2**63 - 1

# ggml type: name, elements in a block, bytes of a block. Types that exist only while computing
# (Q8_1, Q8_K) are never in a file.
TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `offset` counts from the start of the tensor data."""

    name: str
    dimensions: tuple[int, ...]
    offset: int
    num_elements: int
    num_bytes: int


def read_tensors(reader: HeaderReader, count: int) -> list[Tensor]:
    """The tensor table. Raises GgufError for what ggml would not read."""
    if count > MAX_TENSORS:
        raise GgufError(f"it claims {count} tensors, more than the limit of {MAX_TENSORS}")
    if count == 0:
        raise GgufError("it holds no tensors, only a vocabulary or nothing")
    tensors = [_tensor(reader) for _ in range(count)]
    if len({tensor.name for tensor in tensors}) < count:
        raise GgufError("two tensors have the same name")
    return tensors


def check_placement(tensors: list[Tensor], data_start: int, file_bytes: int, alignment: int) -> int:
    """Bytes of all tensors. Raises GgufError when one is outside the file or inside another."""
    end_of_previous = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset % alignment:
            raise GgufError(f"tensor {tensor.name} does not start at a multiple of {alignment}")
        if tensor.offset < end_of_previous:
            raise GgufError(f"tensor {tensor.name} overlaps another one")
        end_of_previous = tensor.offset + tensor.num_bytes
        if data_start + end_of_previous > file_bytes:
            raise GgufError(
                f"tensor {tensor.name} ends behind the end of the file; "
                "was it downloaded completely?"
            )
    return sum(tensor.num_bytes for tensor in tensors)


def _tensor(reader: HeaderReader) -> Tensor:
    name = reader.text(MAX_NAME_BYTES, "a tensor's name")
    if not name or not name.isprintable():
        raise GgufError("a tensor's name is empty or holds unprintable characters")
    num_dimensions = reader.uint32(f"tensor {name}")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise GgufError(f"tensor {name} has {num_dimensions} dimensions, not 1 to 4")
    dimensions = tuple(reader.uint64(f"tensor {name}") for _ in range(num_dimensions))
    kind = reader.uint32(f"tensor {name}")
    offset = reader.uint64(f"tensor {name}")
    if kind not in TENSOR_TYPES:
        raise GgufError(f"tensor {name} has the unknown type {kind}")
    num_elements = 1
    for dimension in dimensions:
        if dimension < 1:
            raise GgufError(f"tensor {name} has a dimension of zero")
        num_elements *= dimension
    if num_elements > _MAX_ELEMENTS:
        raise GgufError(f"tensor {name} has more elements than a 63-bit number counts")
    type_name, block, block_bytes = TENSOR_TYPES[kind]
    if dimensions[0] % block:
        raise GgufError(f"tensor {name} has rows that are no multiple of a {type_name} block")
    return Tensor(name, dimensions, offset, num_elements, num_elements // block * block_bytes)
