//! Common code of the fuzz targets: an input read as a script of steps.

/// An input that is read as a script. After its end, numbers are 0 and texts are empty.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Creates a script that starts at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Script(input)
    }

    /// Whether the whole input was read.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Returns one of `choices`, selected by the next byte.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Returns the next bytes. The byte before them is their number; 255 stands for the whole rest.
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
