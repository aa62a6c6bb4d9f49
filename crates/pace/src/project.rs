//! The repository and its pipeline: which file, read within bounds, checked, with its diagnostics shown.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use lang::{ReadError, Report};
use model::Pipeline;
use model::limits::FILE_BYTES_MAX;

use crate::cli::{Cli, Output};
use crate::exit::Failure;
use crate::screen::Screen;

/// Names of the pipeline file, first match wins.
const FILE_NAMES: [&str; 2] = ["paceline.yaml", "paceline.yml"];
/// Folder of several pipelines.
const FOLDER: &str = ".paceline";

/// A pipeline file and the folder that its steps see.
#[derive(Clone, Debug)]
pub struct Project {
    /// The workspace: the folder of `paceline.yaml`, or the one that holds `.paceline/`. Canonical.
    pub root: PathBuf,
    /// The file's path below `root`, with `/`.
    pub file: String,
}

impl Project {
    /// The one pipeline that is meant: by `--file`, or the nearest from here upwards.
    pub fn find(cli: &Cli) -> Result<Project, Failure> {
        let mut all = Project::find_all(cli)?;
        match all.len() {
            1 => Ok(all.remove(0)),
            _ => {
                let names: Vec<_> = all.iter().map(|project| project.file.as_str()).collect();
                Err(Failure::usage(format!("{} pipelines are here: {}", all.len(), names.join(", ")))
                    .help("name one with --file"))
            }
        }
    }

    /// All pipelines that may be meant; at least one.
    pub fn find_all(cli: &Cli) -> Result<Vec<Project>, Failure> {
        let here = start(cli)?;
        if let Some(file) = &cli.file {
            return Ok(vec![Project::of_file(&here.join(file))?]);
        }
        for folder in here.ancestors() {
            if let Some(name) = FILE_NAMES.iter().find(|name| folder.join(name).is_file()) {
                return Ok(vec![Project { root: folder.to_path_buf(), file: (*name).into() }]);
            }
            let several = pipelines_in(&folder.join(FOLDER));
            if !several.is_empty() {
                return Ok(several
                    .into_iter()
                    .map(|name| Project { root: folder.to_path_buf(), file: format!("{FOLDER}/{name}") })
                    .collect());
            }
            if folder.join(".git").exists() {
                break;
            }
        }
        Err(Failure::usage(format!("there is no paceline.yaml in {} or above it", here.display()))
            .help("`pace init` writes a first one"))
    }

    /// A file that was named. Its workspace is its folder, or the one above `.paceline`.
    pub fn of_file(file: &Path) -> Result<Project, Failure> {
        let file =
            file.canonicalize().map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let root = match folder.file_name() {
            Some(name) if name == FOLDER => folder.parent().unwrap_or(folder),
            _ => folder,
        };
        let below = file.strip_prefix(root).unwrap_or(&file);
        let name =
            below.to_str().ok_or_else(|| Failure::usage(format!("the name of {} is not UTF-8", file.display())))?;
        Ok(Project { root: root.to_path_buf(), file: name.into() })
    }

    /// Reads and checks the pipeline. The report may hold warnings only, or errors and no pipeline.
    pub fn load(&self) -> Result<(Option<Pipeline>, Report), Failure> {
        let path = self.root.join(&self.file);
        let bytes = read_bounded(&path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {}", path.display(), said(&error))))?;
        let mut read = |path: &str| self.read(path);
        Ok(lang::load(&self.file, &bytes, &mut read))
    }

    /// The pipeline, with diagnostics shown; an invalid one is a failure with exit code 3.
    pub fn pipeline(&self, screen: &mut Screen) -> Result<Pipeline, Failure> {
        let (pipeline, report) = self.load()?;
        show(&report, screen);
        pipeline.filter(|_| !report.has_errors()).ok_or_else(|| {
            let errors = report.errors();
            Failure::invalid(format!(
                "{} is not a valid pipeline: {errors} error{}",
                self.file,
                if errors == 1 { "" } else { "s" }
            ))
        })
    }

    /// A file of the repository, for `include`. Links that lead out of it are refused.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        let full = self.root.join(path).canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => ReadError::NotFound,
            _ => ReadError::Other(error.to_string()),
        })?;
        if !full.starts_with(&self.root) {
            return Err(ReadError::Outside);
        }
        read_bounded(&full)
    }

    /// Name of the project's folder in the state: readable, and unique by the path.
    pub fn state_name(&self) -> String {
        let name = self
            .root
            .file_name()
            .map_or("root".into(), |name| name.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let digest = cas::Store::digest_of(self.root.as_os_str().as_encoded_bytes());
        format!("{name}-{}", &digest.hex()[..10])
    }
}

/// Shows what is wrong, or could be better, with a pipeline.
pub fn show(report: &Report, screen: &mut Screen) {
    if report.diagnostics().is_empty() {
        return;
    }
    match screen.output {
        Output::Json => screen.text(&report.json()),
        _ => {
            let text = report.render(screen.error_color(), screen.size().0);
            screen.diagnostics(&text);
        }
    }
}

/// Where `pace` was started, or told to be, canonical.
pub fn start(cli: &Cli) -> Result<PathBuf, Failure> {
    let here = match &cli.directory {
        Some(folder) => folder.clone(),
        None => PathBuf::from("."),
    };
    here.canonicalize().map_err(|error| Failure::usage(format!("cannot go to {}: {error}", here.display())))
}

fn pipelines_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| (name.ends_with(".yaml") || name.ends_with(".yml")) && !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    let other = |error: std::io::Error| ReadError::Other(error.to_string());
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ReadError::NotFound,
        _ => other(error),
    })?;
    if !file.metadata().map_err(other)?.is_file() {
        return Err(ReadError::Other("it is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(other)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes)
}

fn said(error: &ReadError) -> String {
    match error {
        ReadError::NotFound => "it does not exist".into(),
        ReadError::Outside => "it lies outside the repository".into(),
        ReadError::TooLarge => format!("it is larger than {} bytes", FILE_BYTES_MAX),
        ReadError::Other(why) => why.clone(),
    }
}
