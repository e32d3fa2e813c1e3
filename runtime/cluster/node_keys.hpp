#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace varve {

/// The keys of a cluster: a certificate authority of its own (X.509 version 3, RFC 5280; ECDSA on P-256), and a
/// certificate for each node that it has signed. In one folder, 0700:
///   ca.pem  ca.key  NODE.pem  NODE.key
/// A node needs ca.pem and its own two. Whoever has ca.key can make nodes: it belongs where no node runs.

/// One certificate, as it is found.
struct certificate_info {
  /// "ca" or the node's name.
  std::string name;
  /// Seconds since 1970, UTC.
  int64_t not_before = 0, not_after = 0;
  /// What is wrong with it; empty: nothing.
  std::string problem;
  /// Hexadecimal digits; empty where there is none to read.
  std::string serial;
};

struct key_options {
  std::chrono::seconds ca_valid{std::chrono::hours{24 * 3650}};
  std::chrono::seconds node_valid{std::chrono::hours{24 * 825}};
  /// Made anew although they are there.
  bool renew = false;
};

/// Makes what is missing of a cluster's keys. What is there is kept, so that nodes can be added. Empty, or what went
/// wrong; `made` are the names of what was made. Blocks.
std::string make_keys(const std::string& folder, const std::string& cluster, const std::vector<std::string>& nodes,
                      const key_options& options, std::vector<std::string>& made);

/// The CA and the nodes of a folder, each checked: that it can be read, is in force at `now`, is signed by the CA, and
/// that its key is there, its own and nobody else's to read (the CA's key may be absent). Problems begin with a file's
/// path. Blocks.
std::vector<certificate_info> check_keys(const std::string& folder, const std::vector<std::string>& nodes, int64_t now);

/// Where the parts of one node are.
struct key_files {
  std::string ca, certificate, key;
};
key_files key_files_of(const std::string& folder, const std::string& node);

} // namespace varve
