//! What is kept of a secret: its argon2id hash (RFC 9106), as a PHC string.
//!
//! argon2 works in memory of ours here, because glibc's allocator would keep the library's: once 19 MiB
//! came back to it, it takes the next from a heap that it does not shrink, one for each thread that hashes.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};

use crate::{identity::token::Error, rng, secret::Secret};

/// More than glibc ever serves from a heap (mallopt(3): `M_MMAP_THRESHOLD` grows to 32 MiB at most), so
/// that it goes back to the system at once. What argon2 does not ask for is never touched.
const RESERVED: usize = 33 * 1024 * 1024 / Block::SIZE;

const SALT_BYTES: usize = 16;

/// What to keep of a secret.
///
/// # Errors
/// If there is no randomness, or argon2 fails.
pub(in crate::identity) fn hash(secret: &Secret<String>) -> Result<String, Error> {
    let salt = rng::bytes::<SALT_BYTES>()?;
    hash_with(&Argon2::default(), secret, &salt).map_err(Error::Hash)
}

fn hash_with(
    argon2: &Argon2<'_>,
    secret: &Secret<String>,
    salt: &[u8],
) -> password_hash::Result<String> {
    let hash = PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(Salt::new(salt)?),
        hash: Some(derive(argon2, secret, salt, Params::DEFAULT_OUTPUT_LEN)?),
    };
    Ok(hash.to_string())
}

/// Is this the secret of which that is kept?
///
/// # Errors
/// If what is kept is no hash, or argon2 fails.
pub(in crate::identity) fn matches(secret: &Secret<String>, kept: &str) -> Result<bool, Error> {
    matches_it(secret, kept).map_err(Error::Hash)
}

fn matches_it(secret: &Secret<String>, kept: &str) -> password_hash::Result<bool> {
    let kept = PasswordHash::new(kept)?;
    let (Some(salt), Some(hash)) = (&kept.salt, &kept.hash) else {
        return Err(password_hash::Error::EncodingInvalid);
    };
    let algorithm = Algorithm::try_from(kept.algorithm.as_str())?;
    let version = kept.version.map_or_else(|| Ok(Version::default()), Version::try_from)?;
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&kept)?);
    // `Output` is compared in constant time.
    Ok(derive(&argon2, secret, salt, hash.len())? == *hash)
}

fn derive(
    argon2: &Argon2<'_>,
    secret: &Secret<String>,
    salt: &[u8],
    length: usize,
) -> password_hash::Result<Output> {
    let blocks = argon2.params().block_count();
    let mut memory = Vec::new();
    memory.try_reserve_exact(RESERVED.max(blocks)).map_err(|_| argon2::Error::OutOfMemory)?;
    memory.resize(blocks, Block::new());
    let mut buffer = [0_u8; Output::MAX_LENGTH];
    let out = buffer.get_mut(..length).ok_or(password_hash::Error::OutputSize)?;
    argon2.hash_password_into_with_memory(
        secret.expose().as_bytes(),
        salt,
        out,
        memory.as_mut_slice(),
    )?;
    Ok(Output::new(out)?)
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    use super::*;

    #[test]
    fn what_is_kept_is_what_argon2_itself_makes_and_takes() {
        let (secret, other) = (Secret::new("s".repeat(43)), Secret::new("t".repeat(43)));
        let ours = hash(&secret).unwrap();
        assert!(ours.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{ours}");
        assert!(matches(&secret, &ours).unwrap() && !matches(&other, &ours).unwrap());
        let read = PasswordHash::new(&ours).unwrap();
        assert!(Argon2::default().verify_password(secret.expose().as_bytes(), &read).is_ok());
        let theirs = Argon2::default().hash_password(secret.expose().as_bytes()).unwrap();
        assert!(matches(&secret, &theirs.to_string()).unwrap());

        // Kept by an earlier release with other costs, it still holds.
        let params = Params::new(64, 1, 2, None).unwrap();
        let small = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let kept = hash_with(&small, &secret, &[7; SALT_BYTES]).unwrap();
        assert!(kept.contains("m=64,t=1,p=2"), "{kept}");
        assert!(matches(&secret, &kept).unwrap() && !matches(&other, &kept).unwrap());
        for broken in
            ["", "x", "$argon2id$v=19$m=19456,t=2,p=1", "$scrypt$x$aaaaaaaaaaa$aaaaaaaaaaa"]
        {
            assert!(matches(&secret, broken).is_err(), "{broken}");
        }
    }
}
