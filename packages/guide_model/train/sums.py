"""The closed table of small sums, by heart: sums and products of 0 to 10, differences above 0.

A model of this size cannot calculate (a probe got 6 of 60 right), but it can remember 308 lines.
Everything outside the table gets one fixed answer, so it never guesses a number.
"""

from random import Random

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ASK = (
    "what is {}",
    "what's {}",
    "whats {}",
    "what is {} equal to",
    "{}",
    "{} =",
    "{} = ?",
    "calculate {}",
    "how much is {}",
    "can you add up {}",
    "compute {}",
    "solve {}",
    "{} is what",
    "what does {} make",
    "tell me what {} is",
    "{} equals",
    "what is the answer to {}",
    "do you know what {} is",
    "how much does {} make",
    "what do you get for {}",
    "work out {}",
)
_ADD = (
    "what is the sum of {a} and {b}",
    "add {a} and {b}",
    "add {a} to {b}",
    "{a} and {b} together",
    "how much is {a} and {b}",
    "what do {a} and {b} make",
    "sum of {a} and {b}",
)
_SUBTRACT = (
    "subtract {b} from {a}",
    "take {b} from {a}",
    "what is {b} less than {a}",
    "what is the difference between {a} and {b}",
    "{a} take away {b}",
)
_MULTIPLY = (
    "multiply {a} by {b}",
    "what is the product of {a} and {b}",
    "multiply {a} and {b}",
    "product of {a} and {b}",
)
_SIGNS: dict[str, tuple[str, ...]] = {
    "+": ("+", "+", "+", "+", "plus", "plus"),
    "-": ("-", "-", "-", "minus", "minus"),
    "*": ("*", "x", "*", "times", "times", "multiplied by", "\u00d7"),
    "/": ("/", "divided by", "over", "\u00f7"),
}
_NAMED = {"+": _ADD, "-": _SUBTRACT, "*": _MULTIPLY}


def table() -> list[tuple[int, str, int, int]]:
    """Every line that is learned: left, sign, right, result."""
    lines = [(a, "+", b, a + b) for a in range(11) for b in range(11)]
    lines += [(a, "*", b, a * b) for a in range(11) for b in range(11)]
    lines += [(a, "-", b, a - b) for a in range(11) for b in range(a + 1)]
    return lines


_TABLE = table()


def answer(left: int, sign: str, right: int, result: int) -> str:
    """The fixed answer of one line of the table."""
    return f"{left} {'x' if sign == '*' else sign} {right} = {result}."


def draw(rng: Random) -> tuple[str, str]:
    """A question and its answer; the answer is empty for a sum outside the table."""
    if rng.random() < 0.3:
        return _outside(rng), ""
    left, sign, right, result = rng.choice(_TABLE)
    return ask(str(left), sign, str(right), rng), answer(left, sign, right, result)


def ask(left: str, sign: str, right: str, rng: Random) -> str:
    """One way to ask for a sum, in digits or in words."""
    if rng.random() < 0.35 and left.isdigit() and right.isdigit():
        left = WORDS[int(left)] if int(left) < 11 else left
        right = WORDS[int(right)] if int(right) < 11 else right
    if sign in _NAMED and rng.random() < 0.2:
        return rng.choice(_NAMED[sign]).format(a=left, b=right)
    said = rng.choice(_SIGNS[sign])
    tight = len(said) == 1 and rng.random() < 0.5
    return rng.choice(_ASK).format(f"{left}{said}{right}" if tight else f"{left} {said} {right}")


def _outside(rng: Random) -> str:
    """A calculation that is not in the table."""
    big = str(rng.choice((rng.randrange(11, 100), rng.randrange(11, 1000), rng.randrange(10**5))))
    small = str(rng.randrange(0, 1000 if rng.random() < 0.3 else 20))
    roll = rng.random()
    if roll < 0.55:
        big = big if int(big) > 10 else "37"
        pair = [big, small] if rng.random() < 0.6 else [small, big]
        return ask(pair[0], rng.choice("+-*/"), pair[1], rng)
    if roll < 0.7:
        return ask(str(rng.randrange(1, 11)), "/", str(rng.randrange(0, 11)), rng)
    return rng.choice(
        (
            f"what is the square root of {small}",
            f"{small} squared",
            f"{small} to the power of 3",
            f"what is {big} percent of {small}",
            f"{rng.randrange(1, 10)} + {big} + {small}",
            f"{rng.randrange(2, 9)} + {rng.randrange(2, 9)} * {rng.randrange(2, 9)}",
            f"is {big} a prime number",
            f"solve x + {small} = {big}",
            f"what is {small}% of {big}",
            f"{rng.randrange(1, 9)}.{rng.randrange(1, 9)} + {rng.randrange(1, 9)}.5",
            f"how much is {big} times {small} plus 4",
            "can you do big sums",
            "can you calculate",
            f"what is half of {big}",
            f"double {big}",
            "can you do maths",
            "do my math homework",
            f"convert {big} to binary",
            f"{rng.randrange(0, 5)} - {rng.randrange(6, 11)}",
            f"factorial of {small}",
            f"solve x^2 + {small}x - {rng.randrange(1, 10)} = 0",
            f"{rng.randrange(2, 9)}x + {rng.randrange(1, 9)} = {big}, what is x",
            f"help me with {rng.randrange(2, 9)}x - {rng.randrange(1, 9)} = {rng.randrange(1, 9)}",
            "can you do arithmetic",
            "are you good at math",
        )
    )
