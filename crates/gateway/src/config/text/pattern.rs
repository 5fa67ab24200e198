//! Parts of regular expressions that several keys have in the printed schema. They are macros, because `concat!` joins only
//! literals.

/// The port of a URL, from 1 to 65535.
macro_rules! port {
    () => {
        "0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
    };
}

/// The host of a URL, as libraries accept it.
macro_rules! host {
    () => {
        r"([!$&-.0-9;=A-Z_a-z~]+|\[[!$&-.0-9:;=A-Z_a-z~]+\])"
    };
}

/// A name in a placeholder.
macro_rules! name {
    () => {
        r"[^{}/.|*\s]+"
    };
}

/// The part of a placeholder before its default, if it names a value of the request.
macro_rules! request_value {
    () => {
        concat!(
            r"(tier|(query|route)\.",
            name!(),
            r"|header\.[!#$%&'+^_`~0-9A-Za-z-]+|(body|jwt)(\.",
            name!(),
            ")+)"
        )
    };
}

/// A placeholder with a value of the request or of another node. Characters of its default match `$default`.
macro_rules! placeholder {
    ($default:literal) => {
        concat!(
            r"\{(",
            request_value!(),
            "|(?!(body|query|header|jwt|route|tier)[.|}])",
            name!(),
            r"(\.",
            name!(),
            r")+)(\|",
            $default,
            r"*)?\}"
        )
    };
    () => {
        placeholder!("[^}]")
    };
}

pub(in crate::config) use {host, name, placeholder, port, request_value};
