//! The list of members: its limits, its order, and the form in which lists are compared.

use super::values::MemberList;
use super::{ConfigError, contradiction};

/// Largest number of servers in a cluster. Every write waits for a majority of them, and with nine
/// servers four may already fail.
pub const MAX_MEMBERS: usize = 9;

/// One server of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// 1 to 65535.
    pub id: u16,
    /// `host:port` of node-to-node gRPC.
    pub raft_address: String,
    /// `host:port` of the HTTP API.
    pub http_address: String,
}

/// The member list in the form in which lists are compared.
pub fn canonical_list(members: &[MemberConfig]) -> String {
    let lines: Vec<_> = members.iter().map(|m| format!("{}={}/{}", m.id, m.raft_address, m.http_address)).collect();
    lines.join(",")
}

impl MemberList {
    /// The members, ascending by id.
    ///
    /// # Errors
    /// There are too many, or an id or an address occurs twice.
    pub fn ascending(&self) -> Result<Vec<MemberConfig>, ConfigError> {
        let mut members = self.0.clone();
        members.sort_by_key(|member| member.id);
        check_members(&members)?;
        Ok(members)
    }

    /// The entry of a server.
    ///
    /// # Errors
    /// It has none.
    pub fn entry(&self, server_id: u16) -> Result<&MemberConfig, ConfigError> {
        self.0.iter().find(|member| member.id == server_id).ok_or_else(|| {
            let ids: Vec<String> = self.0.iter().map(|member| member.id.to_string()).collect();
            contradiction(format!(
                "--server-id {server_id} is not in --members, which lists {}; set --server-id to the entry of this \
                 server or add it to the list on every node",
                ids.join(", ")
            ))
        })
    }
}

/// Refuses a list that is too long, or gives an id or an address twice.
pub(super) fn check_members(members: &[MemberConfig]) -> Result<(), ConfigError> {
    if members.len() > MAX_MEMBERS {
        return Err(contradiction(format!(
            "--members lists {} servers; a cluster has at most {MAX_MEMBERS}",
            members.len()
        )));
    }
    let mut addresses = std::collections::BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        if members[..index].iter().any(|other| other.id == member.id) {
            return Err(contradiction(format!(
                "--members lists the id {} more than once; give every server an id of its own",
                member.id
            )));
        }
        for (kind, address) in [("raft", &member.raft_address), ("http", &member.http_address)] {
            if let Some((other, other_kind)) = addresses.insert(address, (member.id, kind)) {
                return Err(contradiction(format!(
                    "--members gives the address {address} twice, as {other_kind} address of server {other} and as {kind} \
                     address of server {}; every address must be different",
                    member.id
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_equal_canonical_forms() {
        let list: MemberList = MemberList(vec![
            MemberConfig { id: 2, raft_address: "b:1".into(), http_address: "b:2".into() },
            MemberConfig { id: 1, raft_address: "a:1".into(), http_address: "a:2".into() },
        ]);
        let members = list.ascending().unwrap();
        assert_eq!(canonical_list(&members), "1=a:1/a:2,2=b:1/b:2");
        assert_ne!(canonical_list(&members), canonical_list(&members[..1]));
        assert_eq!(list.entry(2).unwrap().http_address, "b:2");
        assert!(list.entry(3).unwrap_err().to_string().contains("which lists 2, 1"));
    }
}
