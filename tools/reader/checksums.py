"""The three checksums of the disk format, written out from their public definitions.

CRC-32 (IEEE 802.3, reflected 0xedb88320), SipHash-1-3 with a 128-bit result, XXH3-128 with seed 0.
Nothing here is shared with the program that writes stores: that is the point of this reader.
Only CRC-32 has a faster twin in the standard library (zlib); `self_test` compares the two and then
bulk data goes through zlib.
"""

import struct
import zlib

M32 = 0xFFFFFFFF
M64 = 0xFFFFFFFFFFFFFFFF

# ---- CRC-32 -------------------------------------------------------------------------------------


def _crc_table():
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32_plain(data, start=0):
    """CRC-32 byte by byte. `start` is the CRC of what went before."""
    value = start ^ M32
    for byte in data:
        value = (value >> 8) ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ M32


def crc32(data, start=0):
    """CRC-32 for bulk data; the same numbers as `crc32_plain`, which `self_test` proves."""
    return zlib.crc32(data, start) & M32


# ---- SipHash-1-3-128 ----------------------------------------------------------------------------


def _rotl64(value, bits):
    return ((value << bits) | (value >> (64 - bits))) & M64


def _sip_round(v0, v1, v2, v3):
    v0 = (v0 + v1) & M64
    v1 = _rotl64(v1, 13) ^ v0
    v0 = _rotl64(v0, 32)
    v2 = (v2 + v3) & M64
    v3 = _rotl64(v3, 16) ^ v2
    v0 = (v0 + v3) & M64
    v3 = _rotl64(v3, 21) ^ v0
    v2 = (v2 + v1) & M64
    v1 = _rotl64(v1, 17) ^ v2
    v2 = _rotl64(v2, 32)
    return v0, v1, v2, v3


def siphash128(key, data, c_rounds=1, d_rounds=3):
    """16 bytes: the two result words, first word first, each little-endian."""
    k0, k1 = struct.unpack("<QQ", key)
    v0 = k0 ^ 0x736F6D6570736575
    v1 = k1 ^ 0x646F72616E646F6D ^ 0xEE
    v2 = k0 ^ 0x6C7967656E657261
    v3 = k1 ^ 0x7465646279746573
    whole = len(data) // 8 * 8
    tail = bytes(data[whole:])
    words = list(struct.unpack("<%dQ" % (whole // 8), bytes(data[:whole])))
    words.append(int.from_bytes(tail, "little") | ((len(data) & 0xFF) << 56))
    for word in words:
        v3 ^= word
        for _ in range(c_rounds):
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= 0xEE
    for _ in range(d_rounds):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= 0xDD
    for _ in range(d_rounds):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return struct.pack("<QQ", first, v0 ^ v1 ^ v2 ^ v3)


# ---- XXH3-128 -----------------------------------------------------------------------------------

_P32_1, _P32_2, _P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_P64_1, _P64_2, _P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P64_4, _P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MX1, _MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364ea"
    "c5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b"
    "16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def _r32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def _r64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def _swap32(value):
    return int.from_bytes(value.to_bytes(4, "little"), "big")


def _swap64(value):
    return int.from_bytes(value.to_bytes(8, "little"), "big")


def _fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def _avalanche(h):
    h = ((h ^ (h >> 37)) * _MX1) & M64
    return h ^ (h >> 32)


def _avalanche64(h):
    h = ((h ^ (h >> 33)) * _P64_2) & M64
    h = ((h ^ (h >> 29)) * _P64_3) & M64
    return h ^ (h >> 32)


def _xxh3_to_16(data):
    s, n = _SECRET, len(data)
    if n == 0:
        return (
            _avalanche64(_r64(s, 64) ^ _r64(s, 72)),
            _avalanche64(_r64(s, 80) ^ _r64(s, 88)),
        )
    if n <= 3:
        low = (data[0] << 16) | (data[n >> 1] << 24) | data[n - 1] | (n << 8)
        turned = _swap32(low)
        high = ((turned << 13) | (turned >> 19)) & M32
        return (
            _avalanche64(low ^ _r32(s, 0) ^ _r32(s, 4)),
            _avalanche64(high ^ _r32(s, 8) ^ _r32(s, 12)),
        )
    if n <= 8:
        keyed = (_r32(data, 0) | (_r32(data, n - 4) << 32)) ^ _r64(s, 16) ^ _r64(s, 24)
        product = keyed * (_P64_1 + (n << 2))
        low, high = product & M64, (product >> 64) & M64
        high = (high + (low << 1)) & M64
        low ^= high >> 3
        low = ((low ^ (low >> 35)) * _MX2) & M64
        return low ^ (low >> 28), _avalanche(high)
    first, last = _r64(data, 0), _r64(data, n - 8)
    product = (first ^ last ^ _r64(s, 32) ^ _r64(s, 40)) * _P64_1
    low = ((product & M64) + ((n - 1) << 54)) & M64
    last ^= _r64(s, 48) ^ _r64(s, 56)
    high = ((product >> 64) + last + (last & M32) * (_P32_2 - 1)) & M64
    low ^= _swap64(high)
    product = low * _P64_2
    high = ((product >> 64) + high * _P64_2) & M64
    return _avalanche(product & M64), _avalanche(high)


def _mix16(data, at, s_at):
    return _fold(_r64(data, at) ^ _r64(_SECRET, s_at), _r64(data, at + 8) ^ _r64(_SECRET, s_at + 8))


def _mix32(acc, data, one, two, s_at):
    low, high = acc
    low = (low + _mix16(data, one, s_at)) & M64
    low ^= (_r64(data, two) + _r64(data, two + 8)) & M64
    high = (high + _mix16(data, two, s_at + 16)) & M64
    high ^= (_r64(data, one) + _r64(data, one + 8)) & M64
    return low, high


def _xxh3_to_240(data):
    n = len(data)
    acc = ((n * _P64_1) & M64, 0)
    if n <= 128:
        for step in (3, 2, 1, 0):
            if n > 32 * step:
                acc = _mix32(acc, data, 16 * step, n - 16 * step - 16, 32 * step)
    else:
        for at in range(0, 128, 32):
            acc = _mix32(acc, data, at, at + 16, at)
        acc = (_avalanche(acc[0]), _avalanche(acc[1]))
        for at in range(128, n // 32 * 32, 32):
            acc = _mix32(acc, data, at, at + 16, 3 + at - 128)
        acc = _mix32(acc, data, n - 16, n - 32, 136 - 17 - 16)
    low = (acc[0] + acc[1]) & M64
    high = (acc[0] * _P64_1 + acc[1] * _P64_4 + n * _P64_2) & M64
    return _avalanche(low), (-_avalanche(high)) & M64


_STRIPE_KEYS = [struct.unpack_from("<8Q", _SECRET, 8 * i) for i in range(16)]
_SCRAMBLE_KEYS = struct.unpack_from("<8Q", _SECRET, 128)
_LAST_KEYS = struct.unpack_from("<8Q", _SECRET, 121)
_EIGHT = struct.Struct("<8Q")


def _stripe(acc, data, at, keys):
    d0, d1, d2, d3, d4, d5, d6, d7 = _EIGHT.unpack_from(data, at)
    k0, k1, k2, k3, k4, k5, k6, k7 = keys
    a0, a1, a2, a3, a4, a5, a6, a7 = acc
    k0 ^= d0
    k1 ^= d1
    k2 ^= d2
    k3 ^= d3
    k4 ^= d4
    k5 ^= d5
    k6 ^= d6
    k7 ^= d7
    return (
        (a0 + d1 + (k0 & M32) * (k0 >> 32)) & M64,
        (a1 + d0 + (k1 & M32) * (k1 >> 32)) & M64,
        (a2 + d3 + (k2 & M32) * (k2 >> 32)) & M64,
        (a3 + d2 + (k3 & M32) * (k3 >> 32)) & M64,
        (a4 + d5 + (k4 & M32) * (k4 >> 32)) & M64,
        (a5 + d4 + (k5 & M32) * (k5 >> 32)) & M64,
        (a6 + d7 + (k6 & M32) * (k6 >> 32)) & M64,
        (a7 + d6 + (k7 & M32) * (k7 >> 32)) & M64,
    )


def _merge(acc, s_at, start):
    total = start
    for i in range(4):
        total += _fold(
            acc[2 * i] ^ _r64(_SECRET, s_at + 16 * i),
            acc[2 * i + 1] ^ _r64(_SECRET, s_at + 16 * i + 8),
        )
    return _avalanche(total & M64)


def _xxh3_long(data):
    n = len(data)
    acc = (_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1)
    blocks = (n - 1) // 1024
    for block in range(blocks):
        at = 1024 * block
        for i in range(16):
            acc = _stripe(acc, data, at + 64 * i, _STRIPE_KEYS[i])
        acc = tuple(
            ((a ^ (a >> 47) ^ key) * _P32_1) & M64 for a, key in zip(acc, _SCRAMBLE_KEYS)
        )
    at = 1024 * blocks
    for i in range((n - 1 - at) // 64):
        acc = _stripe(acc, data, at + 64 * i, _STRIPE_KEYS[i])
    acc = _stripe(acc, data, n - 64, _LAST_KEYS)
    return (
        _merge(acc, 11, (n * _P64_1) & M64),
        _merge(acc, 192 - 64 - 11, ~(n * _P64_2) & M64),
    )


def xxh3_128(data):
    """The 128-bit integer; its usual print is 32 hex digits of it."""
    n = len(data)
    if n <= 16:
        low, high = _xxh3_to_16(data)
    elif n <= 240:
        low, high = _xxh3_to_240(data)
    else:
        low, high = _xxh3_long(data)
    return (high << 64) | low


# ---- Test vectors -------------------------------------------------------------------------------

# SipHash-2-4-128 of its reference implementation (key 00..0f, data 00..n-1), which pins the words
# and the final steps; SipHash-1-3-128 and XXH3-128 of the worked example in docs/disk-format.md.
_SIP24 = {0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45"}
_SAMPLE_KEY_HASH = "6da881b7a6e5c80031bdaa8602e20644"
_SAMPLE_CONTENT = "e309804c8f7767b9290cf06b09c44683"
# XXH3-128 of the reference's own test buffer (`_sanity_buffer`), one for each way through the code.
_XXH3 = {
    0: "99aa06d3014798d86001c324468d497f",
    1: "a6cd5e9392000f6ac44bdff4074eecdb",
    4: "970d585ac632bf8e2e7d8d6876a39fe9",
    16: "c68c368ecf8a9c05562980258a998629",
    17: "955fa78643ed3669abbc12d11973d7db",
    32: "98fc6458710dc2e8278410a17595e3f9",
    100: "9b50b05817ab158e5fcbc2e3295f2476",
    240: "aa4202daa2769dc85c9aae94c8ebe5a0",
    241: "99a80ecf0ecfc647c5a639ecd2030e5e",
    1000: "9b857abf662e5a25aca2dde0f1951b9a",
    4161: "06e30da044fbc01eefb6ccb06c0b206a",
}


def _sanity_buffer(length):
    out, value = bytearray(), _P32_1
    for _ in range(length):
        out.append(value >> 56)
        value = (value * 0x9E3779B185EBCA8D) & M64
    return bytes(out)


def self_test():
    """The names of the vectors that do not come out; an empty list is success."""
    wrong = []

    def expect(name, got, want):
        if got != want:
            wrong.append("%s gives %s, not %s" % (name, got, want))

    expect("crc32", crc32_plain(b"123456789"), 0xCBF43926)
    for length in (0, 1, 7, 255, 4096):
        data = _sanity_buffer(length)
        expect("zlib, %d bytes" % length, crc32(data, 12345), crc32_plain(data, 12345))
    for length, want in _SIP24.items():
        got = siphash128(bytes(range(16)), bytes(range(length)), 2, 4).hex()
        expect("siphash-2-4-128, %d bytes" % length, got, want)
    got = siphash128(b"0123456789abcdef", b"live/cam1/seg-00042.m4s").hex()
    expect("siphash-1-3-128", got, _SAMPLE_KEY_HASH)
    expect("xxh3-128", "%032x" % xxh3_128(b"#EXTM3U\n"), _SAMPLE_CONTENT)
    for length, want in _XXH3.items():
        expect("xxh3-128, %d bytes" % length, "%032x" % xxh3_128(_sanity_buffer(length)), want)
    return wrong
