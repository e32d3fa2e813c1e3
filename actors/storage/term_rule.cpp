#include "actors/storage/term_rule.hpp"

#include <algorithm>

namespace varve {

term_answer term_rule::grant(const tier_load& load, caf::timespan wished, bool moving) const {
  if (load.grants_waiting < grants_waiting_max)
    return renewal(load, wished, moving);
  term_answer result;
  result.refused = errc::unavailable;
  result.why = "overloaded: " + std::to_string(load.grants_waiting) + " leases wait for its device";
  result.limit = term_limit::overloaded;
  return result;
}

term_answer term_rule::renewal(const tier_load& load, caf::timespan wished, bool moving) const {
  term_answer result;
  result.term = wished;
  const auto limit = load.draining                         ? term_limit::draining
                     : load.sync_latency_mean >= slow_sync ? term_limit::overloaded
                     : moving                              ? term_limit::migrating
                                                           : term_limit::none;
  if (limit != term_limit::none && short_term < wished) {
    result.term = short_term;
    result.limit = limit;
  }
  return result;
}

} // namespace varve
