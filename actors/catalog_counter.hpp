#pragma once

#include <functional>
#include <string>

#include <caf/actor_cast.hpp>
#include <caf/expected.hpp>
#include <caf/timespan.hpp>

#include "messages/interfaces.hpp"

namespace varve {

/// What the catalog actor is besides: it takes a count of numbers of a durable counter ("meta/next-migration" and its
/// like, in decimal, starting at 1) and tells the first of them. A number that is taken is never given again, also if
/// it comes to nothing. Those that ask while others are answered share a commit: a thousand hosts may attach their
/// volumes in the same moment. errc::conflict: another manager took numbers at the same time too often;
/// errc::bad_format.
using counters_actor = caf::typed_actor<caf::replies_to<atom::acquire, std::string, uint64_t>::with<uint64_t>>;

/// Asks for it. `self` must outlive the answer, as in every `then`.
template <class Self>
void take_numbers(Self* self, catalog_actor catalog, caf::timespan timeout, std::string key, uint64_t count,
                  std::function<void(caf::expected<uint64_t>)> done) {
  self->request(caf::actor_cast<counters_actor>(catalog), timeout, atom::acquire_v, std::move(key), count)
    .then([done](uint64_t first) { done(first); }, [done](const caf::error& e) { done(e); });
}

} // namespace varve
