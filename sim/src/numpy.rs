//! numpy's random streams, number for number, so that a seed means the same start as in the reference environments.

/// `numpy.random.RandomState(seed)`: the Mersenne Twister (Matsumoto and Nishimura 1998).
pub(crate) struct RandomState {
    state: [u32; 624],
    next: usize,
}

impl RandomState {
    /// numpy takes whole seeds below 2^32; a larger one is `RandomState([low word, high word])`.
    pub(crate) fn new(seed: u64) -> Self {
        match u32::try_from(seed) {
            Ok(seed) => Self::from_word(seed),
            Err(_) => Self::from_words(&[seed as u32, (seed >> 32) as u32]),
        }
    }

    fn from_word(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    /// `init_by_array` of the authors' 2002 code.
    fn from_words(key: &[u32]) -> Self {
        let Self { mut state, next } = Self::from_word(19_650_218);
        let mut i = 1;
        let mut advance = |state: &mut [u32; 624], factor: u32, term: &dyn Fn(usize) -> u32| {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(factor);
            state[i] = (state[i] ^ mixed).wrapping_add(term(i));
            i += 1;
            if i == 624 {
                state[0] = state[623];
                i = 1;
            }
        };
        for j in 0..624 {
            let j = j % key.len();
            advance(&mut state, 1_664_525, &|_| key[j].wrapping_add(j as u32));
        }
        for _ in 0..623 {
            advance(&mut state, 1_566_083_941, &|i| (i as u32).wrapping_neg());
        }
        state[0] = 0x8000_0000;
        Self { state, next }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let twist = if joined & 1 == 0 { 0 } else { 0x9908_b0df };
                self.state[i] = self.state[(i + 397) % 624] ^ (joined >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in 0..1 with 53 bits.
    fn random(&mut self) -> f64 {
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Uniform in `low..high`, by rejection of masked words.
    pub(crate) fn randint(&mut self, low: u32, high: u32) -> u32 {
        let range = high - 1 - low;
        let mask = range.checked_ilog2().map_or(0, |bits| u32::MAX >> (31 - bits));
        loop {
            let word = self.next_u32() & mask;
            if word <= range {
                return low + word;
            }
        }
    }

    /// The first standard normal number of a pair (Marsaglia's polar method); numpy would give the second one next.
    pub(crate) fn randn(&mut self) -> f64 {
        loop {
            let x = 2.0 * self.random() - 1.0;
            let y = 2.0 * self.random() - 1.0;
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                return (-2.0 * square.ln() / square).sqrt() * y;
            }
        }
    }
}

/// `numpy.random.Generator(PCG64(SeedSequence(seed)))` (O'Neill 2014, XSL-RR 128/64), which is gymnasium's `np_random`.
pub(crate) struct Pcg64 {
    state: u128,
    increment: u128,
    /// The high half of the last word of which only the low half was used.
    spare: Option<u32>,
}

impl Pcg64 {
    pub(crate) fn new(seed: u64) -> Self {
        let words = seed_sequence(seed);
        let wide = |at: usize| {
            let word = |at: usize| u128::from(words[at]) | u128::from(words[at + 1]) << 32;
            word(at) << 64 | word(at + 2)
        };
        let mut stream = Self { state: 0, increment: wide(4) << 1 | 1, spare: None };
        stream.advance();
        stream.state = stream.state.wrapping_add(wide(0));
        stream.advance();
        stream
    }

    fn advance(&mut self) {
        const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.advance();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        self.spare.take().unwrap_or_else(|| {
            let word = self.next_u64();
            self.spare = Some((word >> 32) as u32);
            word as u32
        })
    }

    /// Uniform in `low..high` (Lemire 2019).
    pub(crate) fn integers(&mut self, low: u32, high: u32) -> u32 {
        let width = high - low;
        let rejected_below = width.wrapping_neg() % width;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(width);
            if product as u32 >= rejected_below {
                return low + (product >> 32) as u32;
            }
        }
    }

    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0;
        low + (high - low) * unit
    }
}

/// `SeedSequence(seed).generate_state(8)` (numpy's variant of O'Neill's `seed_seq_fe`).
fn seed_sequence(seed: u64) -> [u32; 8] {
    let mut factor = 0x43b0_d7e5_u32;
    let mut hash = |word: u32| {
        let mut word = word ^ factor;
        factor = factor.wrapping_mul(0x931e_8875);
        word = word.wrapping_mul(factor);
        word ^ (word >> 16)
    };
    let mix = |x: u32, y: u32| {
        let mixed = 0xca01_f9dd_u32.wrapping_mul(x).wrapping_sub(0x4973_f715_u32.wrapping_mul(y));
        mixed ^ (mixed >> 16)
    };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hash);
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            pool[to] = mix(pool[to], hash(pool[from]));
        }
    }

    let mut factor = 0x8b51_f9dd_u32;
    std::array::from_fn(|i| {
        let mut word = pool[i % 4] ^ factor;
        factor = factor.wrapping_mul(0x58f3_8ded);
        word = word.wrapping_mul(factor);
        word ^ (word >> 16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // All expected numbers: numpy 2.4.6, with
    //   r = np.random.RandomState(seed), or np.random.Generator(np.random.PCG64(seed))
    //   r.randint(50, 450), r.randint(50, 450), r.randint(100, 400), r.randint(100, 400), r.randn()
    //   r.integers(...) of the same ranges, r.uniform(-np.pi, np.pi)

    #[test]
    fn random_state_draws_numpys_numbers() {
        let expected: [(u64, [u32; 4], f64); 6] = [
            (0, [222, 97, 217, 292], 0.9787379841057392),
            (1, [87, 285, 172, 355], -0.5497461766598448),
            (100_000, [235, 124, 335, 128], 0.35597632662673595),
            (100_049, [143, 388, 104, 324], -1.634743336092976),
            (u64::from(u32::MAX), [340, 62, 171, 164], 0.0813036681172692),
            // np.random.RandomState([5, 1])
            (5 + (1 << 32), [261, 221, 206, 201], -0.054930173034922855),
        ];
        for (seed, whole, normal) in expected {
            let mut stream = RandomState::new(seed);
            let drawn =
                [(50, 450), (50, 450), (100, 400), (100, 400)].map(|(low, high)| stream.randint(low, high));
            assert_eq!(drawn, whole, "seed {seed}");
            assert_eq!(stream.randn(), normal, "seed {seed}");
        }
    }

    #[test]
    fn pcg64_draws_numpys_numbers() {
        let expected: [(u64, [u32; 4], f64); 5] = [
            (0, [390, 304, 253, 180], -2.8841484100105235),
            (1, [239, 254, 326, 385], -2.2358110930610913),
            (100_000, [113, 100, 219, 240], 3.1260699166107457),
            (5 + (1 << 32), [102, 359, 333, 241], 1.2307525015356537),
            (u64::MAX, [269, 322, 385, 353], -3.095077720057471),
        ];
        for (seed, whole, angle) in expected {
            let mut stream = Pcg64::new(seed);
            let drawn =
                [(50, 450), (50, 450), (100, 400), (100, 400)].map(|(low, high)| stream.integers(low, high));
            assert_eq!(drawn, whole, "seed {seed}");
            assert_eq!(stream.uniform(-std::f64::consts::PI, std::f64::consts::PI), angle, "seed {seed}");
        }
    }

    #[test]
    fn long_streams_stay_in_step() {
        // More words than the Mersenne Twister's state, with every rejection: sums of 2000 draws, and the last draw.
        let mut stream = RandomState::new(7);
        let drawn: Vec<u32> = (0..2000).map(|_| stream.randint(50, 450)).collect();
        assert_eq!((drawn.iter().sum::<u32>(), drawn[1999]), (497_504, 159));
        let mut stream = Pcg64::new(7);
        let drawn: Vec<u32> = (0..2000).map(|_| stream.integers(50, 450)).collect();
        assert_eq!((drawn.iter().sum::<u32>(), drawn[1999]), (505_390, 131));
    }
}
