//! `millstream keys`.

use clap::{Args, Subcommand};
use millstream::{Error, Result};

use super::{Place, clock, print};
use crate::keys::{Keys, Role};

/// Arguments of `millstream keys`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream keys create --name ci --role producer
  millstream keys list
  millstream keys revoke ci

A running server sees changes by itself. A key is shown once: only its hash is kept.")]
pub struct KeysArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Makes a key and prints it
    Create {
        /// What people call it; unique
        #[arg(long)]
        name: String,
        /// producer, analyst, publisher or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// From when on it is refused, such as 2027-01-31T00:00:00Z [default: never]
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Lists all keys, without the keys themselves
    List,
    /// Refuses a key from now on
    Revoke {
        /// Its name
        name: String,
    },
}

fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|_| "write producer, analyst, publisher or admin".to_string())
}

/// Runs one of the three.
pub fn run(args: KeysArgs) -> Result<()> {
    let config = args.place.load()?;
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir).map_err(|e| Error::file(dir, "create", e))?;
    let keys = Keys::open(dir, clock())?;
    match args.command {
        KeysCommand::Create { name, role, expires } => {
            let key = keys.create(&name, role, expires.as_deref())?;
            crate::tell!("A key for {name} ({}), in {}. It is shown only now:", role.name(), dir.display());
            print(format!("{key}\n").as_bytes())
        }
        KeysCommand::List => {
            let keys = keys.list()?;
            let width = keys.iter().map(|key| key.name.chars().count()).max().unwrap_or(0).max(4);
            let mut text = format!("{:width$}  {:9}  {:20}  state\n", "name", "role", "created");
            for key in keys {
                let state = match (&key.revoked_at, &key.expires_at) {
                    (Some(at), _) => format!("revoked {at}"),
                    (None, Some(at)) => format!("expires {at}"),
                    (None, None) => "valid".to_string(),
                };
                text.push_str(&format!("{:width$}  {:9}  {:20}  {state}\n", key.name, key.role.name(), key.created_at));
            }
            print(text.as_bytes())
        }
        KeysCommand::Revoke { name } => {
            keys.revoke(&name)?;
            crate::tell!("revoked {name}");
            Ok(())
        }
    }
}
