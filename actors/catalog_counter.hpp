#pragma once

#include <cstdlib>
#include <functional>
#include <string>

#include <caf/expected.hpp>
#include <caf/timespan.hpp>

#include "messages/interfaces.hpp"

namespace varve {

/// Takes `count` numbers of a durable counter: "meta/next-migration" and its like, in decimal, starting at 1. `done`
/// gets the first of them, or why not: another took numbers at the same time too often, or the catalog's refusal. A
/// number that is taken is never given again, also if it comes to nothing. `self` must outlive the answers, as in every
/// `then`.
template <class Self>
void take_numbers(Self* self, catalog_actor catalog, caf::timespan timeout, std::string key, uint64_t count,
                  std::function<void(caf::expected<uint64_t>)> done, unsigned attempts = 5) {
  auto refused = [done](const caf::error& e) { done(e); };
  self->request(catalog, timeout, atom::list_v, key, std::string{}, uint64_t{1})
    .then(
      [=](const catalog_page& page) {
        const bool present = !page.entries.empty() && page.entries.front().key == key;
        const uint64_t first = present ? std::strtoull(page.entries.front().value.c_str(), nullptr, 10) : 1;
        if (first == 0) {
          done(make_error(errc::bad_format, "catalog entry " + key));
          return;
        }
        catalog_batch batch;
        batch.compare.push_back({key, present ? page.entries.front().revision : 0});
        batch.changes.push_back({key, std::to_string(first + count), false});
        self->request(catalog, timeout, atom::commit_v, batch)
          .then([=](uint64_t) { done(first); },
                [=](const caf::error& e) {
                  if (code_of(e) == errc::conflict && attempts > 1)
                    take_numbers(self, catalog, timeout, key, count, done, attempts - 1);
                  else
                    done(e);
                });
      },
      refused);
}

} // namespace varve
