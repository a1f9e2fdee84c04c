//! The Xenstore part of a toolstack: it builds and removes the tree of a domain.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

use xenstore::embedded;
use xenstore::wire::{Decoder, Message, MessageKind};

/// The toolstack whose tree a domain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolstack {
    /// xapi's xenopsd. The guest may write many nodes, and each domain gets a new
    /// `unique-domain-id`.
    Xapi,
    /// libxl, used by `xl`. The guest may write few nodes, `control` is read-only, and there is no
    /// `unique-domain-id`.
    Libxl,
    /// A home with `domid`, and no node that the guest may write.
    None,
}

/// Stands for the virtual machine, of which a domain is one run.
const VM: &str = "/vm/6d2ff1ee-2c0b-4a2c-9e3b-3d8c46d3a5c7";

impl Toolstack {
    /// Creates the tree of a domain. The domain must be introduced, because permissions may name no
    /// other.
    pub(crate) fn make_tree(self, dom0: &mut Dom0, domid: u16) {
        let home = home(domid);
        let readable = format!("n0\0r{domid}\0");
        let own = format!("n{domid}\0");
        dom0.write(&home, "");
        dom0.set_permissions(&home, &readable);

        // Nodes that domain 0 creates below inherit these permissions.
        dom0.write(&format!("{home}/domid"), &domid.to_string());
        let guest_owned = match self {
            Toolstack::Xapi => embedded::Toolstack::Xapi.guest_owned_nodes(),
            Toolstack::Libxl => embedded::Toolstack::Libxl.guest_owned_nodes(),
            Toolstack::None => return,
        };
        dom0.write(&format!("{home}/name"), &format!("guest-{domid}"));
        dom0.write(&format!("{home}/vm"), VM);
        dom0.write(&format!("{home}/memory/target"), "262144");
        if self == Toolstack::Xapi {
            dom0.write(&format!("{home}/unique-domain-id"), &unique_domain_id());
        }
        for node in guest_owned {
            dom0.write(&format!("{home}/{node}"), "");
            dom0.set_permissions(&format!("{home}/{node}"), &own);
        }
        let vif = format!("{home}/device/vif/0");
        dom0.write(&vif, "");

        // The backend in domain 0 must be able to read the frontend's nodes.
        dom0.set_permissions(&vif, &format!("n{domid}\0r0\0"));
        let backend = format!("/local/domain/0/backend/vif/{domid}/0");
        for (name, value) in [
            ("backend", backend.as_str()),
            ("backend-id", "0"),
            ("handle", "0"),
            ("mac", "00:16:3e:00:00:01"),
            ("state", "4"),
        ] {
            dom0.write(&format!("{vif}/{name}"), value);
        }
    }
}

/// Returns the node at which a domain's relative paths start.
pub(crate) fn home(domid: u16) -> String {
    format!("/local/domain/{domid}")
}

/// Returns a new value in the form of a UUID at each call.
fn unique_domain_id() -> String {
    static BUILT: AtomicU32 = AtomicU32::new(1);
    format!(
        "9a7c1c52-0d53-4f0e-8f3a-{:012x}",
        BUILT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A connection of domain 0. It uses only the wire format, because the client library is what the
/// tests test.
pub(crate) struct Dom0 {
    stream: UnixStream,
    received: Decoder,
}

impl Dom0 {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Dom0 {
            stream,
            received: Decoder::default(),
        }
    }

    /// Sends a request, and returns the payload of the reply or the error.
    pub(crate) fn request(&mut self, kind: MessageKind, payload: &[u8]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let request = Message {
            kind,
            request_id: 1,
            transaction_id: 0,
            payload: payload.to_vec(),
        };
        request
            .encode(&mut bytes)
            .map_err(|error| error.to_string())?;
        self.stream
            .write_all(&bytes)
            .map_err(|error| error.to_string())?;
        loop {
            if let Some(reply) = self
                .received
                .next_message()
                .map_err(|error| error.to_string())?
            {
                let text = || {
                    String::from_utf8_lossy(&reply.payload)
                        .trim_end_matches('\0')
                        .to_owned()
                };
                return if reply.kind == MessageKind::ERROR {
                    Err(text())
                } else {
                    Ok(reply.payload)
                };
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("the daemon closed the connection".to_owned()),
                Ok(len) => self.received.extend(&bytes[..len]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Sends a request that must succeed.
    #[track_caller]
    fn demand(&mut self, kind: MessageKind, payload: &str) {
        if let Err(error) = self.request(kind, payload.as_bytes()) {
            panic!("{kind} {}: {error}", payload.escape_debug());
        }
    }

    #[track_caller]
    pub(crate) fn write(&mut self, path: &str, value: &str) {
        self.demand(MessageKind::WRITE, &format!("{path}\0{value}"));
    }

    #[track_caller]
    fn set_permissions(&mut self, path: &str, permissions: &str) {
        self.demand(MessageKind::SET_PERMS, &format!("{path}\0{permissions}"));
    }

    /// Removes a node. A missing node is no error.
    pub(crate) fn remove(&mut self, path: &str) -> Result<(), String> {
        match self.request(MessageKind::RM, format!("{path}\0").as_bytes()) {
            Err(error) if error != "ENOENT" => Err(error),
            _ => Ok(()),
        }
    }

    /// Introduces a domain. `port` is the domain's end of its event channel.
    #[track_caller]
    pub(crate) fn introduce(&mut self, domid: u16, port: u32) {
        // The shim ignores the frame number, `1`.
        self.demand(MessageKind::INTRODUCE, &format!("{domid}\x001\0{port}\0"));
    }

    pub(crate) fn release(&mut self, domid: u16) -> Result<(), String> {
        self.request(MessageKind::RELEASE, format!("{domid}\0").as_bytes())
            .map(drop)
    }
}
