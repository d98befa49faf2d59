//! A keystore with users, and their computers: the real programs on all ends.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::home::{Run, text};
use crate::keystore::Keystore;
use crate::servers::{S3Server, free_port};
use crate::{Drive, Home};

/// What users type.
pub const PASSWORD: &str = "correct horse battery staple";

/// An open keystore that users can enrol at.
pub struct Organisation {
    /// The server.
    pub keystore: Keystore,
    /// What opens it.
    pub shares: Vec<String>,
}

/// A user with the first computer.
pub struct User {
    /// The name at the keystore.
    pub name: String,
    /// The computer.
    pub home: Home,
}

impl Organisation {
    /// Archives in a folder of the keystore's.
    pub fn with_folder() -> Organisation {
        Organisation::start("", &[])
    }

    /// Archives in a bucket. The server alone has the credentials.
    pub fn with_bucket(server: &dyn S3Server) -> Organisation {
        let store = format!(
            "[store]\ns3 = \"{}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n",
            server.store("archives"),
            server.endpoint()
        );
        Organisation::start(&store, &server.variables())
    }

    /// The same with more configuration, and variables of the server's process.
    pub fn start(more: &str, variables: &[(String, String)]) -> Organisation {
        let keystore = Keystore::start_on(free_port(), more, variables);
        for name in crate::keystore::HOLDERS {
            keystore.add(name, "holder");
        }
        let shares = keystore.init();
        keystore.unseal([1, 3, 5], &shares);
        Organisation { keystore, shares }
    }

    /// Opens the keystore again.
    pub fn unseal(&self) {
        self.keystore.unseal([2, 3, 4], &self.shares);
    }

    /// A file with an enrolment token.
    pub fn token(&self, user: &str, policy: &str, more: &[&str]) -> PathBuf {
        let file = self.keystore.path(&format!("{user}.token"));
        let _ = fs::remove_file(&file);
        let mut arguments = vec![
            "user",
            "add",
            user,
            "--policy",
            policy,
            "--out",
            text(&file),
        ];
        arguments.extend(more);
        self.keystore.ok(&arguments);
        file
    }

    /// Somebody with a computer that is enrolled.
    pub fn enrol(&self, name: &str, more: &[&str]) -> User {
        self.enrol_with(name, &self.token(name, "private", &[]), more)
    }

    /// The same with a quota.
    pub fn enrol_with_quota(&self, name: &str, quota: &str) -> User {
        self.enrol_with(name, &self.token(name, "private", &["--quota", quota]), &[])
    }

    /// The same with this token.
    pub fn enrol_with(&self, name: &str, token: &Path, more: &[&str]) -> User {
        let user = User {
            name: name.to_owned(),
            home: Home::new(),
        };
        fs::write(user.password(), PASSWORD).expect("written");
        let (password, factor, code) = (user.password(), user.factor(), user.code());
        let mut arguments = vec![
            "enrol",
            self.keystore.url(),
            "--device",
            "laptop",
            "--token-file",
            text(token),
            "--password-file",
            text(&password),
            "--second-factor-file",
            text(&factor),
            "--recovery-code-out",
            text(&code),
        ];
        arguments.extend(more);
        user.home.ok(&arguments);
        user
    }

    /// Another computer of the same user.
    pub fn log_in(&self, user: &User, device: &str, more: &[&str]) -> Home {
        let home = Home::new();
        let run = self.try_log_in(user, &home, device, more);
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        home
    }

    /// The same, whatever comes of it.
    pub fn try_log_in(&self, user: &User, home: &Home, device: &str, more: &[&str]) -> Run {
        let (password, factor) = (user.password(), user.factor());
        let mut arguments = vec![
            "login",
            self.keystore.url(),
            "--user",
            &user.name,
            "--device",
            device,
            "--password-file",
            text(&password),
            "--second-factor-file",
            text(&factor),
        ];
        arguments.extend(more);
        home.run(arguments)
    }

    /// The user's devices as operators see them: name and state.
    pub fn devices(&self, user: &str) -> Vec<(String, String)> {
        let listed = self.keystore.ok(&["user", "devices", user]);
        let devices = listed["devices"].as_array().expect("a list");
        let field = |device: &Value, name: &str| device[name].as_str().expect("text").to_owned();
        devices
            .iter()
            .map(|device| (field(device, "name"), field(device, "state")))
            .collect()
    }
}

impl User {
    /// The file with the password.
    pub fn password(&self) -> PathBuf {
        self.home.path("password")
    }

    /// The file with the second factor's secret.
    pub fn factor(&self) -> PathBuf {
        self.home.path("second-factor")
    }

    /// The file with the recovery code.
    pub fn code(&self) -> PathBuf {
        self.home.path("recovery-code-of-enrolment")
    }

    /// The drive.
    pub fn mount(&self) -> Drive<'_> {
        self.home.mount()
    }
}
