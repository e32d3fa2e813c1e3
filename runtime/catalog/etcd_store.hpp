#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <caf/error.hpp>

#include "runtime/catalog/catalog_store.hpp"
#include "runtime/catalog/etcd_election.hpp"

namespace varve {

class etcd_client;

struct etcd_store_options {
  /// Of all keys of the cluster, as the election has it.
  std::string prefix;
  /// How long a call that is not carried out, or not answered, is tried again.
  std::chrono::nanoseconds retry_for = std::chrono::seconds{4};
  /// How long it is asked whether a commit without an answer was made.
  std::chrono::nanoseconds resolve_for = std::chrono::seconds{30};
};

/// The catalog of a cluster, in etcd. A batch is one transaction, which compares the leader's key too: a manager that
/// was deposed changes nothing more, whatever it believes. Batches whose keys are apart are under way together.
///
/// A commit that gets no answer is not reported as failed when it may have been made: each batch writes a mark of its
/// own, at a place whose revision it compares. To find out, that place is taken: when that succeeds the batch was not
/// made and never will be (and is tried again); otherwise its mark tells that it was. The marks go with the leader's
/// lease.
///
/// Refusals beside those of catalog_store:
///   - errc::unavailable: this node does not lead (the context says who does), or etcd could not be reached. Nothing
///   was
///     changed.
///   - errc::timed_out: a commit may have been made or not: etcd did not tell within `resolve_for`, or the lease ended
///     meanwhile. Read again.
///   - errc::limit_reached: more than 127 changes, 126 comparisons or 1.5 MiB in one batch, which etcd cannot do at
///     once, and so it is not done. errc::tier_full: etcd has no space left.
class etcd_store : public catalog_store {
public:
  /// The client outlives the store. Nobody leads at first.
  etcd_store(etcd_client& client, etcd_store_options options);
  /// As `drain`; what has no answer then gets errc::timed_out or unavailable.
  ~etcd_store() override;
  /// Waits until all that was asked is answered, at most `retry_for`. Not on the loop's thread.
  void drain();

  void commit(catalog_batch batch, callback done) override;
  void list(std::string prefix, std::string after, size_t limit, callback done) override;

  /// From now on it works under this leadership. `ready` is called once, on the loop's thread: errc::bad_format when
  /// a newer version has written the catalog. Not called when leadership is lost before. Any thread.
  void lead(etcd_leadership x, std::function<void(caf::error)> ready);
  /// From now on all is refused with errc::unavailable and this context. Any thread.
  void follow(std::string why);

private:
  class core;
  etcd_client& client_;
  std::shared_ptr<core> core_;
};

} // namespace varve
