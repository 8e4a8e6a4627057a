//! Which hashes a run may hold: a split block Bloom filter, as Parquet defines it (blocks of eight 32-bit words, one bit of
//! each; Putze, Sanders and Singler, 2007), so that a lookup of a key that is not there costs one cache line.

/// As in Parquet's definition.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
type Block = [u32; 8];
const BLOCK_BYTES: usize = size_of::<Block>();
/// At least so many bits for each hash: of a hundred that are not there, one or two may pass.
const BITS_MIN: usize = 9;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// A power of two of them.
    blocks: Vec<Block>,
}

impl Filter {
    /// Room for so many different hashes.
    pub fn with_room(hash_count: usize) -> Filter {
        let block_count = (hash_count * BITS_MIN).div_ceil(8 * BLOCK_BYTES).next_power_of_two();
        Filter { blocks: vec![Block::default(); block_count] }
    }

    pub fn insert(&mut self, hash: u64) {
        let place = self.place(hash);
        for (word, bit) in self.blocks[place].iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }

    /// False: it is not there.
    pub fn may_hold(&self, hash: u64) -> bool {
        self.blocks[self.place(hash)].iter().zip(bits(hash)).all(|(word, bit)| word & bit != 0)
    }

    /// As short as so many hashes need: there was room for more than came.
    pub fn shrink(&mut self, hash_count: usize) {
        while self.blocks.len() > 1 && self.blocks.len() / 2 * 8 * BLOCK_BYTES >= hash_count * BITS_MIN {
            let halves = self.blocks.chunks_exact(2);
            self.blocks = halves.map(|pair| std::array::from_fn(|word| pair[0][word] | pair[1][word])).collect();
        }
    }

    /// The high bits say which block: of half as many blocks it is the one of half the number.
    fn place(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    pub fn memory_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Little-endian words.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()));
    }

    /// `None` if the bytes are no filter.
    pub fn read(bytes: &[u8]) -> Option<Filter> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        let word = |block: &[u8; BLOCK_BYTES], at: usize| {
            u32::from_le_bytes([block[4 * at], block[4 * at + 1], block[4 * at + 2], block[4 * at + 3]])
        };
        let blocks: Vec<Block> = blocks.iter().map(|block| std::array::from_fn(|at| word(block, at))).collect();
        (rest.is_empty() && blocks.len().is_power_of_two()).then_some(Filter { blocks })
    }
}

fn bits(hash: u64) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn nothing_is_missed_and_little_passes() {
        let mut random = StdRng::seed_from_u64(3);
        for (room, count) in [(1, 1), (1000, 1000), (100_000, 900), (5000, 4999)] {
            let hashes: Vec<u64> = (0..count).map(|_| random.random()).collect();
            let mut filter = Filter::with_room(room);
            hashes.iter().for_each(|hash| filter.insert(*hash));
            filter.shrink(count);
            let mut bytes = vec![];
            filter.write(&mut bytes);
            assert_eq!(Filter::read(&bytes).as_ref(), Some(&filter));
            assert!(hashes.iter().all(|hash| filter.may_hold(*hash)));
            let passed = (0..10_000).filter(|_| filter.may_hold(random.random())).count();
            assert!(passed < 400, "{passed} of 10000 pass a filter of {count}");
            assert!(bytes.len() <= (count * BITS_MIN).div_ceil(8).next_power_of_two().max(BLOCK_BYTES));
        }
        assert_eq!(Filter::read(&[0; 33]), None);
    }
}
