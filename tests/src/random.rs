//! Random numbers that a seed repeats.

/// A generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Random bits that belong to some numbers, the same whenever they are asked for.
pub fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |h, part| Random(h ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93)).bits())
}

/// The seeds of a test: 1 to `n`, to `MILLSTREAM_SEEDS`, or the one in `MILLSTREAM_SEED`.
pub fn seeds(n: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a seed is a number"));
    match number("MILLSTREAM_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("MILLSTREAM_SEEDS").unwrap_or(n)).collect(),
    }
}
