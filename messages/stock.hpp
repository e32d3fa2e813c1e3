#pragma once

#include "messages/types.hpp"
#include "messages/volume.hpp"

namespace varve {

/// A shard file as the tier found it when it started.
struct found_shard {
  shard_home home;
  bool incomplete = false;
  generation sealed_for{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, found_shard& x) {
  return f(caf::meta::type_name("varve::found_shard"), x.home, x.incomplete, x.sealed_for);
}

} // namespace varve
