//! Panics of functions that a caller or a user supplied.

use std::{
    any::Any,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

/// Runs `function`, and catches its panic.
///
/// In contrast to [`catch_unwind`], the caught panic can be dropped safely: see [`Caught`]. Whatever state
/// `function` changed before its panic stays changed.
///
/// ```
/// use tower_fanout_layers::panic::catch;
///
/// assert_eq!(catch(|| 1).unwrap(), 1);
/// assert!(catch(|| panic!("at the disco")).is_err());
/// ```
///
/// # Errors
/// Returns the panic of `function`.
#[inline]
pub fn catch<T>(function: impl FnOnce() -> T) -> Result<T, Caught> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|payload| Caught(Some(payload)))
}

/// A panic that was [caught](catch).
///
/// The payload of a panic is any value, whose destructor can panic too. Dropping a `Caught` never panics.
pub struct Caught(Option<Box<dyn Any + Send>>);

impl Caught {
    /// Continues the panic in the caller.
    pub(crate) fn resume(mut self) -> ! {
        resume_unwind(
            self.0
                .take()
                .expect("only `drop` takes the payload as well"),
        )
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let payload = self.0.take();
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // Its destructor could panic again, and so on.
            mem::forget(second);
        }
    }
}

impl fmt::Debug for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caught")
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct PanicsOnDrop(u32);

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            if let Some(more) = self.0.checked_sub(1) {
                panic_any(Self(more));
            }
        }
    }

    #[test]
    fn ev_08_a_payload_that_panics_on_drop_is_caught() {
        for depth in 0..4 {
            assert!(catch(|| panic_any(PanicsOnDrop(depth))).is_err());
        }
    }

    #[test]
    fn a_resumed_panic_has_its_payload() {
        let caught = catch(|| panic_any(7_u32)).unwrap_err();
        let again = catch_unwind(AssertUnwindSafe(|| caught.resume()));
        assert_eq!(again.unwrap_err().downcast_ref(), Some(&7_u32));
    }
}
