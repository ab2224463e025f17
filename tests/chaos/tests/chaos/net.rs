//! A network of its own for each server: a namespace with one link, which can be cut, also in one
//! direction. Needs the right to make them (`CAP_NET_ADMIN`), `ip` and `nft`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

/// Names of namespaces begin so, and with the process that made them.
const PREFIX: &str = "antiphon-";

/// The way that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The server hears nothing.
    In,
    /// The server isn't heard.
    Out,
    Both,
}

/// A namespace, and the link to it. It is gone with the value.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// The address of this machine, as it is seen from in there.
    pub host: String,
}

impl Network {
    /// Makes one, if that is possible here.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{PREFIX}{pid}-{count}");
        // A /30 has two addresses; there are 64 in the last byte.
        let (net, first) = (pid % 250, (count % 64) * 4);
        let (host, inner) = (
            format!("10.217.{net}.{}", first + 1),
            format!("10.217.{net}.{}", first + 2),
        );
        let link = format!("av{pid}-{count}");
        let it = Self { name, host };
        let made = ip(&["netns", "add", &it.name])
            && ip(&[
                "link", "add", &link, "type", "veth", "peer", "name", "out", "netns", &it.name,
            ])
            && ip(&["addr", "add", &format!("{}/30", it.host), "dev", &link])
            && ip(&["link", "set", &link, "up"])
            && ip(&[
                "-n",
                &it.name,
                "addr",
                "add",
                &format!("{inner}/30"),
                "dev",
                "out",
            ])
            && ip(&["-n", &it.name, "link", "set", "out", "up"])
            && ip(&["-n", &it.name, "link", "set", "lo", "up"])
            && it.rules("add table inet cut\ndelete table inet cut\n");
        made.then_some(it)
    }

    /// A command that runs in there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Whatever goes that way is dropped, and nobody is told.
    pub fn cut(&self, way: Way) {
        let mut rules = "add table inet cut\n".to_owned();
        for (hook, end, is_cut) in [
            ("input", "iifname", way != Way::Out),
            ("output", "oifname", way != Way::In),
        ] {
            if is_cut {
                rules += &format!(
                    "add chain inet cut {hook} {{ type filter hook {hook} priority 0; }}\n\
                     add rule inet cut {hook} {end} \"out\" drop\n"
                );
            }
        }
        assert!(self.rules(&rules), "the link can't be cut");
    }

    pub fn heal(&self) {
        assert!(self.rules("delete table inet cut\n"), "the cut isn't there");
    }

    fn rules(&self, rules: &str) -> bool {
        let child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            return false;
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(rules.as_bytes())
            .unwrap();
        child.wait().unwrap().success()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]);
    }
}

/// Removes what processes have left that were killed.
pub fn sweep() {
    let list = Command::new("ip").args(["netns", "list"]).output();
    let list = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for line in list.unwrap_or_default().lines() {
        let name = line.split(' ').next().unwrap();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    let ran = Command::new("ip")
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    ran.is_ok_and(|status| status.success())
}
