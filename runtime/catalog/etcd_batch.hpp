#pragma once

#include <string>
#include <vector>

#include "messages/catalog.hpp"
#include "runtime/catalog/etcd_client.hpp"
#include "runtime/catalog/etcd_election.hpp"

namespace varve {

/// Where batches leave their marks, one after the other.
struct etcd_mark {
  std::string key;
  /// At which it was last written; 0: never.
  uint64_t revision = 0;
};

/// The transactions that a batch becomes, and what their answers say. No thread, no waiting.
struct etcd_batch {
  etcd_leadership leader;
  /// Of the catalog's keys.
  std::string prefix;
  catalog_batch batch;
  /// What the mark then says: no other batch under this leader says the same.
  std::string id;

  /// Makes the changes and the mark, if the comparisons hold, this leader leads and the mark is as it was.
  etcd_transaction make(const etcd_mark& mark) const;
  /// Takes the mark's place, so that `make` cannot happen any more; or tells what is there.
  etcd_transaction take_place(const etcd_mark& mark) const;
  std::string voided() const { return "void " + id; }

  enum class outcome : uint8_t { made, refused, deposed, again, not_made, unknown };
  struct reading {
    outcome what;
    /// Of the batch when made; the mark's otherwise, where it is known.
    uint64_t revision = 0;
    /// Of refused: the key whose comparison does not hold.
    std::string key;
  };
  /// Of an answer without an error to `make`. `again`: only the mark was not as it was; it is now at `revision`.
  reading read_made(const etcd_answer& x, const etcd_mark& mark) const;
  /// Of an answer without an error to `take_place`: made, not_made or unknown.
  reading read_taken(const etcd_answer& x) const;
};

/// Of one key, the last change counts: etcd refuses two. Keeps the order.
void keep_last_changes(catalog_batch& x);

/// The first key after all that begin with `prefix`, which is not empty and has a byte below 0xff.
std::string etcd_prefix_end(std::string prefix);

} // namespace varve
