//! Programs that run while a test does.

use std::net::TcpListener;
use std::process::Child;

/// Ends with the test, whatever becomes of it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or it has to now.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port of this computer that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
