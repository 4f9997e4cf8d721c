//! What goes wrong when a message is read.

use std::fmt;
use std::io;

use http1::Refusal;

/// Why a message could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// What came is none, or less than announced.
    Refused(Refusal),
    /// The connection broke.
    Broken(io::Error),
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> ReadError {
        ReadError::Refused(refusal)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Broken(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Refused(refusal) => refusal.fmt(f),
            ReadError::Broken(error) => error.fmt(f),
        }
    }
}
