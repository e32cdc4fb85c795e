//! Limits on what one frame may make us allocate.

/// What decoding one message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All arrays of the message together.
    pub elements_max: u32,
    /// One section of tagged fields.
    pub tagged_fields_max: u32,
    /// Memory allowed for any message ...
    pub memory_floor_bytes: u64,
    /// ... and in addition for each of its bytes.
    pub memory_per_byte: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            elements_max: 1_000_000,
            tagged_fields_max: 10_000,
            memory_floor_bytes: 64 * 1024,
            memory_per_byte: 8,
        }
    }
}

impl Budget {
    /// The memory a body of this size may take once decoded.
    pub fn allowed_bytes(&self, body_bytes: usize) -> u64 {
        self.memory_floor_bytes + self.memory_per_byte * body_bytes as u64
    }
}
