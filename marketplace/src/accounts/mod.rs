//! Who people are and what they may do: accounts, passwords, sessions, API tokens, limits, the audit log.
//!
//! A session's cookie and a token are 256 random bits, so only their SHA-256 is kept and they are found by it: no comparison
//! leaks how much of a guess was right. Passwords are Argon2id.

mod account;
pub mod audit;
mod caller;
mod change;
mod limit;
mod password;
mod register;
mod token;

pub use self::account::{Account, Role, Scope};
pub use self::caller::{Address, Caller, MaybeCaller, SESSION_COOKIE, cookie, same_origin};
pub use self::change::{NewPassword, change_password, set_password};
pub use self::limit::{Limit, Limits};
pub use self::password::Passwords;
pub use self::register::{
    SignIn, SignUp, by_handle, check_name, grant, open_session, sign_in, sign_out, sign_up, sign_up_elsewhere,
};
pub use self::token::{NewToken, Token, issue as issue_token, list as list_tokens, revoke as revoke_token};
