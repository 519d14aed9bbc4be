//! An account, its role, and what a token may be used for.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use crate::db;
use crate::problem::{Problem, Result};

/// What an account may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look, install, review, buy.
    Consumer,
    /// Publish and sell.
    Publisher,
    /// Decide on submissions and reports.
    Moderator,
    /// Everything.
    Admin,
}

impl Role {
    /// All, least first.
    pub const ALL: [Self; 4] = [Self::Consumer, Self::Publisher, Self::Moderator, Self::Admin];

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Publisher => "publisher",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }

    /// The role of a name.
    pub fn of(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name).ok_or_else(|| {
            Problem::invalid(format!("unknown role '{name}'; use consumer, publisher, moderator or admin"))
        })
    }
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See what the account has.
    Read,
    /// Install, upgrade, roll back, remove.
    Install,
    /// Write reviews, votes, reports and collections.
    Review,
    /// Upload versions, edit agents, set prices, yank.
    Publish,
    /// Decide on submissions and reports; the account needs the role too.
    Moderate,
}

impl Scope {
    /// The scope's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Install => "install",
            Self::Review => "review",
            Self::Publish => "publish",
            Self::Moderate => "moderate",
        }
    }
}

/// A person's or an organisation's account, as the account itself sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Account {
    /// Stable.
    pub id: String,
    /// The name in addresses; unique.
    pub handle: String,
    /// Where letters go; unique.
    pub email: String,
    /// The name on pages.
    pub display_name: String,
    /// What it may do.
    pub role: Role,
    /// free, team or enterprise.
    pub tier: String,
    /// The Connect account that sales are paid to.
    #[serde(skip)]
    pub connect_account: Option<String>,
    /// Stripe says that it can take money.
    pub can_sell: bool,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

impl Account {
    /// The columns that [`Account::of`] reads.
    pub const COLUMNS: &'static str =
        "a.id, a.handle, a.email, a.display_name, a.role, a.tier, a.connect_account, a.charges_enabled, a.created_at";

    /// The account in a row.
    pub fn of(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: db::text(row, "id")?,
            handle: db::text(row, "handle")?,
            email: db::text(row, "email")?,
            display_name: db::text(row, "display_name")?,
            role: Role::of(&db::text(row, "role")?)?,
            tier: db::text(row, "tier")?,
            connect_account: db::text_or_null(row, "connect_account")?,
            can_sell: db::number(row, "charges_enabled")? != 0,
            created_at: db::number(row, "created_at")?,
        })
    }
}
