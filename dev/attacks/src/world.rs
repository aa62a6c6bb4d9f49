//! What an attack is told of the world outside: partners that the stage put there, named in the environment.

use std::path::PathBuf;

/// Partners outside.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// A process outside, which the attacks may try to harm.
    pub victim: i32,
    /// A TCP server on the host's 127.0.0.1.
    pub port: u16,
    /// A name in the abstract namespace at which a server outside listens.
    pub abstract_name: String,
    /// A folder outside the view, with the files `secret` and `socket`.
    pub outside: PathBuf,
    /// The key of a System V shared memory segment outside.
    pub ipc_key: i32,
    /// Whether everything that the attack can reach may be harmed.
    pub caged: bool,
}

impl World {
    /// As the environment tells it; what is missing is 0 or empty.
    pub fn from_env() -> World {
        let text = |name: &str| std::env::var(format!("ATTACK_{name}")).unwrap_or_default();
        World {
            victim: text("VICTIM").parse().unwrap_or(0),
            port: text("PORT").parse().unwrap_or(0),
            abstract_name: text("ABSTRACT"),
            outside: text("OUTSIDE").into(),
            ipc_key: text("IPC_KEY").parse().unwrap_or(0),
            caged: text("CAGED") == "yes",
        }
    }

    /// The same as variables, to hand it over.
    pub fn to_env(&self) -> Vec<(String, String)> {
        let all = [
            ("VICTIM", self.victim.to_string()),
            ("PORT", self.port.to_string()),
            ("ABSTRACT", self.abstract_name.clone()),
            ("OUTSIDE", self.outside.display().to_string()),
            ("IPC_KEY", self.ipc_key.to_string()),
            ("CAGED", if self.caged { "yes" } else { "no" }.to_string()),
        ];
        all.into_iter().map(|(name, value)| (format!("ATTACK_{name}"), value)).collect()
    }
}
