//! One connection to a PostgreSQL server: start, password, one query as text. Blocking, for it runs on a thread that has
//! nothing else to do. (Source: "Frontend/Backend Protocol" of the PostgreSQL manual; RFC 5802 for the password.)

use std::io::{BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

/// A server that says nothing for so long is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A longer message is not one of this protocol.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// The protocol's version 3.0.
const VERSION: i32 = 196_608;

/// Why it failed, as people read it.
type Answer<T> = Result<T, String>;

/// A connection that is ready for a query.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects and gives the password.
    pub fn open(host: &str, port: u16, user: &str, password: &str, database: &str) -> Answer<Self> {
        let mut why = format!("there is no host '{host}'");
        for address in (host, port).to_socket_addrs().map_err(|e| e.to_string())? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Self::start(stream, user, password, database),
                Err(e) => why = e.to_string(),
            }
        }
        Err(why)
    }

    fn start(stream: TcpStream, user: &str, password: &str, database: &str) -> Answer<Self> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let mut own = Self { stream: BufReader::with_capacity(1 << 16, stream) };
        let mut start = VERSION.to_be_bytes().to_vec();
        for text in
            ["user", user, "database", database, "client_encoding", "UTF8", "application_name", "millstream", ""]
        {
            start.extend_from_slice(text.as_bytes());
            start.push(0);
        }
        own.send(None, &start)?;
        let mut scram: Option<Scram> = None;
        loop {
            let (kind, body) = own.receive()?;
            if kind == b'Z' {
                return Ok(own);
            }
            if kind != b'R' {
                continue;
            }
            let (what, rest) = body.split_first_chunk().ok_or("a message that is cut short")?;
            match (i32::from_be_bytes(*what), &mut scram) {
                (0, _) => {}
                (3, _) => own.send(Some(b'p'), &[password.as_bytes(), &[0]].concat())?,
                (10, _) => {
                    let first = Scram::new(password)?;
                    let text = format!("n,,{}", first.bare);
                    let length = (text.len() as i32).to_be_bytes();
                    own.send(Some(b'p'), &[b"SCRAM-SHA-256\0".as_slice(), &length, text.as_bytes()].concat())?;
                    scram = Some(first);
                }
                (11, Some(scram)) => {
                    let text = scram.proof(rest)?;
                    own.send(Some(b'p'), text.as_bytes())?;
                }
                (12, Some(scram)) => scram.check(rest)?,
                _ => return Err("the server asks for a password in a way other than scram-sha-256 or password".into()),
            }
        }
    }

    /// Asks, and hands over each row of the answer.
    pub fn query(&mut self, sql: &str, mut row: impl FnMut(&[Option<&str>])) -> Answer<()> {
        self.send(Some(b'Q'), &[sql.as_bytes(), &[0]].concat())?;
        loop {
            let (kind, body) = self.receive()?;
            match kind {
                b'Z' => break,
                b'D' => row(&values(&body).ok_or("a row that is cut short or not UTF-8")?),
                _ => {}
            }
        }
        self.send(Some(b'X'), &[])
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Answer<()> {
        let length = i32::try_from(body.len() + 4).map_err(|_| "a message that is too long")?;
        let message = [kind.as_slice(), &length.to_be_bytes(), body].concat();
        self.stream.get_mut().write_all(&message).map_err(|e| e.to_string())
    }

    /// The next message; an error that the server tells is one here.
    fn receive(&mut self) -> Answer<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).map_err(|e| e.to_string())?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length)).ok().and_then(|l| l.checked_sub(4));
        let length = length.filter(|l| *l <= MESSAGE_BYTES_MAX).ok_or("it does not speak PostgreSQL's protocol")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|e| e.to_string())?;
        if kind == b'E' {
            let told = body.split(|b| *b == 0).find_map(|field| field.strip_prefix(b"M"));
            return Err(told.map_or("an error without words".into(), |m| String::from_utf8_lossy(m).into_owned()));
        }
        Ok((kind, body))
    }
}

fn values(body: &[u8]) -> Option<Vec<Option<&str>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..i16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => {
                values.push(None);
                rest = after;
            }
            Ok(length) => {
                let (value, after) = after.split_at_checked(length)?;
                values.push(Some(std::str::from_utf8(value).ok()?));
                rest = after;
            }
        }
    }
    Some(values)
}

/// Shows a server that one knows the password, without sending it (RFC 5802 with SHA-256).
struct Scram {
    password: String,
    nonce: String,
    bare: String,
    /// What the server must answer.
    signature: Option<[u8; 32]>,
}

impl Scram {
    fn new(password: &str) -> Answer<Self> {
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|e| format!("no random numbers: {e}"))?;
        let nonce = BASE64.encode(random);
        Ok(Self { password: password.into(), bare: format!("n=,r={nonce}"), nonce, signature: None })
    }

    fn proof(&mut self, challenge: &[u8]) -> Answer<String> {
        let challenge = std::str::from_utf8(challenge).map_err(|e| e.to_string())?;
        let field =
            |key: &str| challenge.split(',').find_map(|f| f.strip_prefix(key)).ok_or("a challenge that is cut short");
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) {
            return Err("the server answers somebody else's challenge".into());
        }
        let salt = BASE64.decode(field("s=")?).map_err(|e| e.to_string())?;
        let rounds: u32 = field("i=")?.parse().map_err(|_| "a challenge without rounds")?;
        let salted = salted(self.password.as_bytes(), &salt, rounds);
        let last = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{last}", self.bare);
        let key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(key), signed.as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        self.signature = Some(hmac(&hmac(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{last},p={}", BASE64.encode(proof)))
    }

    fn check(&self, answer: &[u8]) -> Answer<()> {
        let given = answer.strip_prefix(b"v=").and_then(|v| BASE64.decode(v).ok());
        match (given, self.signature) {
            (Some(given), Some(wanted)) if given == wanted => Ok(()),
            _ => Err("the server does not know the password itself".into()),
        }
    }
}

fn salted(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let mut last = hmac(password, &[salt, &1u32.to_be_bytes()].concat());
    let mut all = last;
    for _ in 1..rounds {
        last = hmac(password, &last);
        all.iter_mut().zip(last).for_each(|(a, b)| *a ^= b);
    }
    all
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    let short: Vec<u8> = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.iter_mut().zip(short).for_each(|(b, k)| *b = k);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn a_password_is_proved() {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_string();
        let bare = format!("n=user,r={nonce}");
        let mut scram = Scram { password: "pencil".into(), nonce, bare, signature: None };
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.proof(challenge.as_bytes()).unwrap();
        assert!(proof.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{proof}");
        scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert!(scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=").is_err());
    }
}
