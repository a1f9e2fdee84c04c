//! What the fuzz targets share: the input as a script of steps.

/// An input, read as a script. Where it is at its end, numbers are 0 and texts are empty.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Reads `input` from its beginning.
    pub fn new(input: &'a [u8]) -> Self {
        Script(input)
    }

    /// Whether all was read.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// One of `choices`, by the next byte.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// The next bytes: as many as the byte before them says, 255 standing for all that is left.
    pub fn bytes(&mut self) -> &'a [u8] {
        match self.byte() {
            u8::MAX => self.take(self.0.len()),
            len => self.take(usize::from(len)),
        }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(len.min(self.0.len()));
        self.0 = left;
        taken
    }
}
