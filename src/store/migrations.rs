//! The migrations that this program carries, in their order.

/// One step of the schema, never changed once it is released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Counts from 1.
    pub version: i32,
    /// What it is about.
    pub name: &'static str,
    pub(super) sql: &'static str,
}

impl Migration {
    /// One that this program does not carry: what another version of it has more.
    pub const fn new(version: i32, name: &'static str, sql: &'static str) -> Self {
        Self { version, name, sql }
    }

    /// The schema that an engine must know at least to run on this one. Expanding keeps it, contracting
    /// raises it.
    pub fn oldest_engine(&self) -> i32 {
        let line = self.sql.lines().find_map(|line| line.strip_prefix("-- oldest-engine: "));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(self.version)
    }

    /// What tells this text from any other, over all machines and versions of this program.
    pub fn checksum(&self) -> String {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(self.sql.as_bytes());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

macro_rules! migration {
    ($version:literal, $name:literal, $file:literal) => {
        Migration::new(
            $version,
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $file)),
        )
    };
}

/// All of them, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    migration!(1, "jobs", "0001_jobs.sql"),
    migration!(2, "enqueue", "0002_enqueue.sql"),
    migration!(3, "operators", "0003_operators.sql"),
    migration!(4, "tokens", "0004_tokens.sql"),
    migration!(5, "limits", "0005_limits.sql"),
    migration!(6, "conflicts", "0006_conflicts.sql"),
    migration!(7, "progress", "0007_progress.sql"),
    migration!(8, "callbacks", "0008_callbacks.sql"),
    migration!(9, "groups", "0009_groups.sql"),
    migration!(10, "pull", "0010_pull.sql"),
    migration!(11, "enqueued", "0011_enqueued.sql"),
    migration!(12, "stage_offset", "0012_stage_offset.sql"),
    migration!(13, "outbox", "0013_outbox.sql"),
    migration!(14, "requests", "0014_requests.sql"),
];

/// What makes the table of that name, which other databases may have, too.
pub(super) const STAGE_OFFSET: &str = include_str!("../../migrations/0012_stage_offset.sql");

/// The version of the schema that this program was written for.
pub const LATEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn versions_rise_and_say_which_engines_run_on_them() {
        assert!(MIGRATIONS.is_sorted_by(|one, next| one.version < next.version));
        for migration in MIGRATIONS {
            let header = migration.sql.lines().filter(|line| line.starts_with("-- oldest-engine: ")).count();
            assert_eq!(header, 1, "{} has one line `-- oldest-engine: N`", migration.name);
            assert!((1..=migration.version).contains(&migration.oldest_engine()), "{}", migration.name);
        }
    }

    #[test]
    fn every_file_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sql"))
            .collect();
        files.sort();
        let carried: Vec<_> =
            MIGRATIONS.iter().map(|one| format!("{:04}_{}.sql", one.version, one.name)).collect();
        assert_eq!(files, carried);
    }
}
