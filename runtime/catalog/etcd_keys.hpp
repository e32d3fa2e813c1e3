#pragma once

#include <string>

/// Where things are in etcd, below a cluster's prefix.
namespace varve::etcd_key {

/// Who leads; belongs to the leader's lease.
inline std::string leader(const std::string& prefix) {
  return prefix + "leader";
}

/// The version of all that is below the prefix.
inline std::string format(const std::string& prefix) {
  return prefix + "format";
}

/// The catalog's own keys (records.hpp) follow.
inline std::string catalog(const std::string& prefix) {
  return prefix + "catalog/";
}

/// Marks of the batches of the leader whose key was created at a revision; belong to its lease.
inline std::string mark(const std::string& prefix, const std::string& created, const std::string& number) {
  return prefix + "mark/" + created + '/' + number;
}

} // namespace varve::etcd_key
