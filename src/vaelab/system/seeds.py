"""Seeds that are pure functions of their purpose."""

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for a purpose, a pure function of ``seed`` and the words of the purpose."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
