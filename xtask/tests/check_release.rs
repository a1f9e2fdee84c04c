//! `.ci/check-release` accepts a signed release, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Repository with one commit of version 1.2.3, and keys of a maintainer and of a stranger.
struct Repository {
    directory: TempDir,
}

impl Repository {
    fn new() -> Result<Self> {
        let repository = Self {
            directory: tempfile::tempdir()?,
        };
        fs::create_dir_all(repository.path("work/.ci"))?;
        fs::create_dir_all(repository.path("work/crates/xenstore"))?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/check-release");
        fs::copy(script, repository.path("work/.ci/check-release"))?;
        repository.write_versions("1.2.3", "## 1.2.3 (2026-12-01)")?;

        for name in ["maintainer", "stranger"] {
            let key = repository.path(name);
            succeed(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(key),
            )?;
        }
        let key = fs::read_to_string(repository.path("maintainer.pub"))?;
        fs::write(
            repository.path("signers"),
            format!("maintainer@example.org {key}"),
        )?;

        repository.git(&["init", "-q"])?;
        Ok(repository)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_versions(&self, version: &str, heading: &str) -> Result<()> {
        let manifest = format!(
            "[workspace.package]\nversion = \"{version}\"\n\
             repository = \"https://git.example.org/agent\"\n\n[workspace.dependencies]\n\
             xenstore = {{ path = \"crates/xenstore\", version = \"0.1.0\" }}\n"
        );
        self.write_library_version("0.1.0")?;
        fs::write(self.path("work/Cargo.toml"), manifest)?;
        fs::write(
            self.path("work/CHANGELOG.md"),
            format!("# Changelog\n\n{heading}\n"),
        )?;
        Ok(())
    }

    fn write_library_version(&self, version: &str) -> Result<()> {
        let manifest = format!("[package]\nversion = \"{version}\"\n");
        fs::write(self.path("work/crates/xenstore/Cargo.toml"), manifest)?;
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<Output> {
        let mut git = Command::new("git");
        git.current_dir(self.path("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .args([
                "-c",
                "user.name=Test",
                "-c",
                "user.email=maintainer@example.org",
                "-c",
                "gpg.format=ssh",
            ])
            .args(arguments);
        succeed(&mut git)
    }

    /// Commits everything, signed by `signer` if there is one.
    fn commit(&self, signer: Option<&str>) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.sign(signer, &["commit", "-q", "-m", "Release"], "--gpg-sign")
    }

    /// Makes an annotated tag, signed by `signer` if there is one.
    fn tag(&self, signer: Option<&str>, name: &str) -> Result<()> {
        self.sign(signer, &["tag", "-a", "-m", "Release", name], "--sign")
    }

    fn sign(&self, signer: Option<&str>, command: &[&str], option: &str) -> Result<()> {
        let key = signer.map(|signer| format!("user.signingKey={}", self.path(signer).display()));
        let mut arguments = Vec::new();
        if let Some(key) = &key {
            arguments.extend(["-c", key]);
        }
        arguments.extend(command.iter().take(1));
        if key.is_some() {
            arguments.push(option);
        }
        arguments.extend(command.iter().skip(1));
        self.git(&arguments).map(drop)
    }

    /// Returns what the check complains about, which is nothing if it accepts the release.
    fn complaints(&self, tag: &str) -> Result<String> {
        let output = Command::new("bash")
            .args([".ci/check-release", tag, "../signers"])
            .current_dir(self.path("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()?;
        let complaints = String::from_utf8(output.stderr)?;
        assert_eq!(
            output.status.success(),
            complaints.is_empty(),
            "{complaints}"
        );
        Ok(complaints)
    }
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

const MAINTAINER: Option<&str> = Some("maintainer");
const STRANGER: Option<&str> = Some("stranger");

#[test]
#[ignore = "needs git and ssh-keygen"]
fn release_is_accepted_if_everything_agrees() -> Result<()> {
    let repository = Repository::new()?;
    repository.commit(MAINTAINER)?;
    repository.tag(MAINTAINER, "v1.2.3")?;

    assert_eq!(repository.complaints("v1.2.3")?, "");
    Ok(())
}

#[test]
#[ignore = "needs git and ssh-keygen"]
fn release_is_refused_if_version_or_changelog_differ() -> Result<()> {
    let repository = Repository::new()?;
    repository.write_versions("1.2.4", "## 1.2.3 (2026-12-01)")?;
    repository.commit(MAINTAINER)?;
    repository.tag(MAINTAINER, "v1.2.3")?;
    let complaints = repository.complaints("v1.2.3")?;
    assert!(
        complaints.contains("Cargo.toml has version 1.2.4"),
        "{complaints}"
    );
    assert!(
        complaints.contains("the newest heading is \"## 1.2.3 (2026-12-01)\""),
        "{complaints}"
    );

    let repository = Repository::new()?;
    repository.write_versions("1.2.3", "## Unreleased")?;
    repository.commit(MAINTAINER)?;
    repository.tag(MAINTAINER, "v1.2.3")?;
    let complaints = repository.complaints("v1.2.3")?;
    assert!(
        complaints.contains("the newest heading is \"## Unreleased\""),
        "{complaints}"
    );
    Ok(())
}

#[test]
#[ignore = "needs git and ssh-keygen"]
fn release_is_refused_without_a_maintainers_signatures() -> Result<()> {
    for signer in [None, STRANGER] {
        let repository = Repository::new()?;
        repository.commit(signer)?;
        repository.tag(MAINTAINER, "v1.2.3")?;
        let complaints = repository.complaints("v1.2.3")?;
        assert!(complaints.contains("commit "), "{complaints}");
        assert_eq!(complaints.lines().count(), 1, "{complaints}");

        let repository = Repository::new()?;
        repository.commit(MAINTAINER)?;
        repository.tag(signer, "v1.2.3")?;
        let complaints = repository.complaints("v1.2.3")?;
        assert_eq!(
            complaints,
            "check-release: tag v1.2.3: no signature of a maintainer\n"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs git and ssh-keygen"]
fn release_is_refused_while_the_repository_is_a_placeholder() -> Result<()> {
    let repository = Repository::new()?;
    let path = repository.path("work/Cargo.toml");
    let released = fs::read_to_string(&path)?;
    fs::write(
        &path,
        released.replace("https://git.example.org/agent", "https://example.org/agent"),
    )?;
    repository.commit(MAINTAINER)?;
    repository.tag(MAINTAINER, "v1.2.3")?;
    assert_eq!(
        repository.complaints("v1.2.3")?,
        "check-release: Cargo.toml: repository is \"https://example.org/agent\", not the address \
         of the project; set it\n"
    );
    Ok(())
}

#[test]
#[ignore = "needs git and ssh-keygen"]
fn release_is_refused_if_the_tag_is_missing_or_leads_elsewhere() -> Result<()> {
    let repository = Repository::new()?;
    repository.commit(MAINTAINER)?;
    let complaints = repository.complaints("v1.2.3")?;
    assert_eq!(
        complaints,
        "check-release: tag v1.2.3: not an annotated tag of this repository\n"
    );

    repository.tag(MAINTAINER, "v1.2.3")?;
    fs::write(repository.path("work/new"), "")?;
    repository.commit(MAINTAINER)?;
    let complaints = repository.complaints("v1.2.3")?;
    assert_eq!(
        complaints,
        "check-release: tag v1.2.3: does not lead to HEAD\n"
    );
    Ok(())
}
