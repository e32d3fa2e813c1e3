#pragma once

#include <string>

#include "runtime/cli/cluster_file.hpp"

namespace varve::cli {

/// The one etcd of a cluster on one machine, which `cluster up` starts and `cluster down` stops: its data, its log and
/// its process's number lie in the cluster's folder.
class local_etcd {
public:
  explicit local_etcd(const cluster_file& of);

  /// Whether the file asks for it.
  bool wanted() const { return wanted_; }
  const std::string& url() const { return url_; }

  /// Starts it unless it runs, and waits until something listens. What went wrong, or empty; `started`: it did not run.
  std::string start(bool& started);
  /// Ends it if it runs, and waits. What went wrong, or empty; `stopped`: it ran.
  std::string stop(bool& stopped);

private:
  /// 0: none that we started.
  int running() const;

  bool wanted_;
  std::string url_, folder_;
};

} // namespace varve::cli
