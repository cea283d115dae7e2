//! The shipped example, carried in the binary so that `dev --sample` works from any folder.

use std::io;
use std::path::Path;

use include_dir::{Dir, include_dir};

static FOLDERS: [(&str, Dir<'_>); 4] = [
    ("pipelines", include_dir!("$CARGO_MANIFEST_DIR/pipelines")),
    ("schemas", include_dir!("$CARGO_MANIFEST_DIR/schemas")),
    ("lookups", include_dir!("$CARGO_MANIFEST_DIR/lookups")),
    ("samples", include_dir!("$CARGO_MANIFEST_DIR/samples")),
];

/// Writes the example below `folder`, over what is there.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    for (name, content) in &FOLDERS {
        let target = folder.join(name);
        std::fs::create_dir_all(&target)?;
        content.extract(&target)?;
    }
    Ok(())
}
