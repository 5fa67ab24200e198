//! The command `init`: writes a configuration file to start from.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::config::json_schema;

/// The file to start from.
const STARTER: &str = include_str!("starter.yaml");

/// Name of the schema, which the first line of the starter has. Hidden, so that it is no part of a folder of
/// configuration files.
const SCHEMA: &str = ".fanout.schema.json";

/// Returns an error for a name that ends as those of JSON files do, because the starter file is YAML.
fn check_name(path: &Path) -> io::Result<()> {
    let ending = path.extension().unwrap_or_default();
    if !ending.eq_ignore_ascii_case("json") {
        return Ok(());
    }
    let (path, other) = (path.display(), path.with_extension("yaml"));
    let message = format!(
        "{path} would not be JSON: the starter file is YAML; name it {}",
        other.display()
    );
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

/// Writes a starter file to `path`, and its JSON Schema beside it. Returns the path of the schema.
///
/// # Errors
/// Returns an error if the file exists or should be JSON, if there is another schema, or if one of the two cannot be written.
pub(crate) fn init(path: &Path) -> io::Result<PathBuf> {
    check_name(path)?;
    let schema = path.with_file_name(SCHEMA);
    let text = format!("{:#}\n", json_schema());
    let is_current = fs::read(&schema).is_ok_and(|old| old == text.as_bytes());
    // Checked before anything is written, so that a refused command leaves nothing behind.
    if !is_current && fs::symlink_metadata(&schema).is_ok() {
        return Err(cannot_write_schema(
            &schema,
            &ErrorKind::AlreadyExists.into(),
        ));
    }
    let create = || File::create_new(path)?.write_all(STARTER.as_bytes());
    create().map_err(|error| {
        let path = path.display();
        let message = match error.kind() {
            ErrorKind::AlreadyExists => format!("{path} exists already; name another file"),
            _ => format!("cannot write {path}: {error}"),
        };
        io::Error::new(error.kind(), message)
    })?;
    if !is_current {
        // Replaces no file, and follows no link.
        File::create_new(&schema)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| cannot_write_schema(&schema, &error))?;
    }
    Ok(schema)
}

fn cannot_write_schema(schema: &Path, error: &io::Error) -> io::Error {
    let path = schema.display();
    let message = match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{path} exists already; to replace it, run: fanout schema > {path}")
        }
        _ => format!("cannot write {path}: {error}"),
    };
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn check(text: &str) {
        let secret = "a secret that is long enough for HS256".to_owned();
        let env = Environment::from_iter([("JWT_SECRET".to_owned(), secret)]);
        let config =
            Config::parse("starter.yaml", text, &env).unwrap_or_else(|report| panic!("{report}"));
        assert!(
            config.warnings.diagnostics().is_empty(),
            "{}",
            config.warnings
        );
    }

    #[test]
    fn refuses_a_name_of_a_json_file() {
        for name in ["a.json", "a.JSON"] {
            let path = std::env::temp_dir().join(format!("fanout-{}-{name}", std::process::id()));
            let error = init(&path).unwrap_err().to_string();
            assert!(
                error.contains("the starter file is YAML; name it"),
                "{error}"
            );
            assert!(!path.exists());
        }
    }

    #[test]
    fn leaves_nothing_behind_beside_another_schema() {
        let folder = std::env::temp_dir().join(format!("fanout-init-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, schema) = (folder.join("fanout.yaml"), folder.join(SCHEMA));
        fs::write(&schema, "{}").unwrap();
        let error = init(&file).unwrap_err().to_string();
        assert!(
            error.contains("to replace it, run: fanout schema"),
            "{error}"
        );
        assert!(!file.exists());

        fs::remove_file(&schema).unwrap();
        assert_eq!(init(&file).unwrap(), schema);
        fs::remove_file(&file).unwrap();
        assert_eq!(init(&file).unwrap(), schema, "the schema is current");
        assert!(
            init(&file)
                .unwrap_err()
                .to_string()
                .contains("name another file")
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_starter_names_its_schema_in_the_first_line() {
        let modeline = format!("# yaml-language-server: $schema={SCHEMA}");
        assert_eq!(STARTER.lines().next(), Some(&*modeline));
    }

    #[test]
    fn the_starter_is_valid_with_and_without_its_suggestions() {
        check(STARTER);
        // A suggestion is a comment that begins with `#-`. With auth, there is nothing to acknowledge.
        let with_all = STARTER.replace("#- ", "");
        assert_ne!(with_all, STARTER);
        let (with_auth, _) = with_all.split_once("\nacknowledge:").unwrap();
        check(with_auth);
    }
}
