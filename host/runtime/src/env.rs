//! Names of environment variables an app may receive from an addon.
//!
//! An addon must not be able to run code in the app: names that loaders, interpreters and proxies read are never given,
//! whatever manifest or policy say.

use crate::id::Id;

/// Longest name, in bytes.
const NAME_MAX: usize = 128;

const NEVER_NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "TMPDIR",
    "IFS",
    "ENV",
    "BASH_ENV",
    "CDPATH",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "PS4",
    "PROMPT_COMMAND",
    "SHELLOPTS",
    "BASHOPTS",
    "TERMINFO",
    "CLASSPATH",
    "CATALINA_OPTS",
    "JAVA_OPTS",
    "JAVA_HOME",
    "JDK_JAVA_OPTIONS",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "RES_OPTIONS",
    "GETCONF_DIR",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "ZDOTDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "NO_PROXY",
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "GOFLAGS",
    "GODEBUG",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "MAKEFLAGS",
    "CC",
    "CXX",
    "R_PROFILE",
    "R_PROFILE_USER",
    "ELECTRON_RUN_AS_NODE",
    "DENO_DIR",
    "TCLLIBPATH",
    "ERL_FLAGS",
    "ERL_AFLAGS",
    "ERL_ZFLAGS",
    "ELIXIR_ERL_OPTIONS",
    "CORECLR_ENABLE_PROFILING",
    "DOTNET_STARTUP_HOOKS",
];

const NEVER_PREFIXES: &[&str] = &[
    "LD_",
    "DYLD_",
    "GLIBC_",
    "MALLOC_",
    "PYTHON",
    "PERL5",
    "PERLLIB",
    "PERL_",
    "RUBY",
    "GEM_",
    "BUNDLE_",
    "GIT_",
    "SSH_",
    "BASH_FUNC_",
    "JAVA_TOOL_",
    "_JAVA_",
    "NPM_CONFIG_",
    "LUA_",
    "CORECLR_",
    "COR_",
    "DOTNET_",
    "PIP_",
    "SUDO_",
    "LESSOPEN",
    "LESSCLOSE",
    "XDG_",
    "DYLIB_",
    "NIX_",
    "GUIX_",
    "LODGER_",
];

const NEVER_SUFFIXES: &[&str] = &["_PROXY", "_PRELOAD"];

/// Whether a name has the form `^[A-Z][A-Z0-9_]*$`, at most 128 bytes, and nothing but an app's own code reads it.
pub fn is_allowed(name: &str) -> bool {
    is_well_formed(name)
        && !NEVER_NAMES.contains(&name)
        && !NEVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !NEVER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

pub fn is_well_formed(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The name a variable has in an app: under an alias, the addon's own prefix gives way to the alias's.
///
/// `REDIS_URL` of addon `redis` as `cache` is `CACHE_URL`; `DATABASE_URL` of `postgres` as `main` is `MAIN_DATABASE_URL`.
pub fn name_in_app(name: &str, addon: &Id, alias: Option<&Id>) -> String {
    let Some(alias) = alias else { return name.to_owned() };
    let rest = name.strip_prefix(&addon.env_prefix()).unwrap_or(name);
    format!("{}{rest}", alias.env_prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_run_code_are_never_given() {
        for name in [
            "LD_PRELOAD",
            "PATH",
            "NODE_OPTIONS",
            "HTTPS_PROXY",
            "MY_PROXY",
            "PYTHONPATH",
            "BASH_ENV",
            "_X",
            "a",
            "1A",
            "",
        ] {
            assert!(!is_allowed(name), "{name}");
        }
        for name in ["REDIS_URL", "A", "DATABASE_URL"] {
            assert!(is_allowed(name), "{name}");
        }
    }

    #[test]
    fn an_alias_takes_the_place_of_the_addons_name() -> Result<(), crate::id::NotAnId> {
        let (redis, cache) = ("redis".parse()?, "cache".parse()?);
        assert_eq!(name_in_app("REDIS_URL", &redis, Some(&cache)), "CACHE_URL");
        assert_eq!(name_in_app("DATABASE_URL", &redis, Some(&cache)), "CACHE_DATABASE_URL");
        assert_eq!(name_in_app("REDIS_URL", &redis, None), "REDIS_URL");
        Ok(())
    }
}
