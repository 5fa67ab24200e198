//! `CallContext` for standard types, which carry no metadata.

use std::sync::Arc;

use super::{Call, CallContext};

macro_rules! plain_requests {
    ($($request:ty),* $(,)?) => { $(impl CallContext for $request {})* };
}
plain_requests!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    String,
    str,
    &'static str,
);
#[cfg(feature = "http")]
plain_requests!(bytes::Bytes);
impl<T> CallContext for [T] {}
impl<T> CallContext for &'static [T] {}
impl<T, const N: usize> CallContext for [T; N] {}
impl<T> CallContext for Vec<T> {}
impl<T> CallContext for Option<T> {}
impl<A> CallContext for (A,) {}
impl<A, B> CallContext for (A, B) {}
impl<A, B, C> CallContext for (A, B, C) {}
impl<A, B, C, D> CallContext for (A, B, C, D) {}
impl<T: ?Sized> CallContext for Arc<T> {}

impl<T: CallContext + ?Sized> CallContext for Box<T> {
    fn call(&self) -> &Call {
        (**self).call()
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        (**self).call_mut()
    }

    fn is_idempotent(&self) -> bool {
        (**self).is_idempotent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::WithCall;

    fn metadata<T: CallContext>(mut request: T) -> (u8, bool, bool) {
        let attempt = request.call().attempt;
        (
            attempt,
            request.call_mut().is_some(),
            request.is_idempotent(),
        )
    }

    fn second_attempt() -> WithCall<u32> {
        let mut request = WithCall::new(1).idempotent();
        request.call_mut().unwrap().attempt = 2;
        request
    }

    #[test]
    fn standard_types_carry_no_metadata() {
        let none = (1, false, false);
        assert_eq!(metadata((1, "two", 3.0, ["four"])), none);
        assert_eq!(metadata((1, [2])), none);
        assert_eq!(metadata((1, 'b', Some(true))), none);
        assert_eq!(metadata((vec![1],)), none);
        assert_eq!(metadata(b"bytes".as_slice()), none);
        assert_eq!(metadata(Box::<str>::from("boxed")), none);
        assert_eq!(metadata(Box::<[u8]>::from([1])), none);
        assert_eq!(metadata(Arc::<str>::from("shared")), none);
        assert_eq!(metadata(Arc::new(second_attempt())), none);
        #[cfg(feature = "http")]
        assert_eq!(metadata(bytes::Bytes::new()), none);
    }

    #[test]
    fn a_box_has_the_metadata_of_its_content() {
        assert_eq!(metadata(Box::new(second_attempt())), (2, true, true));
    }
}
