#pragma once

#include <caf/atom.hpp>

/// The verbs of messages: at most 10 letters, since CAF 0.17 packs them into 64 bits.
namespace varve::atom {

// A declared name cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define VARVE_ATOM(verb)                                                                                               \
  using verb = caf::atom_constant<caf::atom(#verb)>;                                                                   \
  inline constexpr verb verb##_v {}
// NOLINTEND(bugprone-macro-parentheses)

VARVE_ATOM(acquire);
VARVE_ATOM(activate);
VARVE_ATOM(attach);
VARVE_ATOM(cancel);
VARVE_ATOM(change);
VARVE_ATOM(commit);
VARVE_ATOM(copy);
VARVE_ATOM(create);
VARVE_ATOM(detach);
VARVE_ATOM(drain);
VARVE_ATOM(end);
VARVE_ATOM(evict);
VARVE_ATOM(expire);
VARVE_ATOM(fence);
VARVE_ATOM(get);
VARVE_ATOM(inventory);
VARVE_ATOM(join);
VARVE_ATOM(kill);
VARVE_ATOM(list);
VARVE_ATOM(locate);
VARVE_ATOM(move);
VARVE_ATOM(need);
VARVE_ATOM(open);
VARVE_ATOM(pause);
VARVE_ATOM(place);
VARVE_ATOM(publish);
VARVE_ATOM(refresh);
VARVE_ATOM(release);
VARVE_ATOM(remove);
VARVE_ATOM(renew);
VARVE_ATOM(report);
VARVE_ATOM(reserve);
VARVE_ATOM(resize);
VARVE_ATOM(resume);
VARVE_ATOM(revoke);
VARVE_ATOM(seal);
VARVE_ATOM(send);
VARVE_ATOM(start);
VARVE_ATOM(stop);
VARVE_ATOM(tick);
VARVE_ATOM(verify);

#undef VARVE_ATOM

} // namespace varve::atom
