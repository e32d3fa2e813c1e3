#pragma once

#include <memory>

#include <kj/async.h>

#include "messages/wire.hpp"
#include "runtime/rpc/bridge.hpp"

namespace varve {

template <class T>
struct outcome {
  caf::error error;
  T value{};
};

/// A promise for what `start` answers on whatever thread.
template <class T, class Start>
kj::Promise<outcome<T>> ask(Start start) {
  auto pair = kj::newPromiseAndCrossThreadFulfiller<outcome<T>>();
  auto fulfiller = std::make_shared<kj::Own<kj::CrossThreadPromiseFulfiller<outcome<T>>>>(kj::mv(pair.fulfiller));
  start(answer<T>{[fulfiller](caf::error e, T x) { (*fulfiller)->fulfill({std::move(e), std::move(x)}); }});
  return kj::mv(pair.promise);
}

/// Answers a call: `fill` writes the value where there is no error.
template <class T, class Context, class Start, class Fill>
kj::Promise<void> serve(Context context, Start start, Fill fill) {
  // What was asked is copied by now; its message need not wait for the answer.
  context.releaseParams();
  return ask<T>(std::move(start)).then([context, fill](outcome<T> x) mutable {
    auto results = context.getResults();
    if (x.error)
      to_wire(results.initError(), x.error);
    else
      fill(results, x.value);
  });
}

constexpr auto fill_nothing = [](auto, const nothing&) {};

/// What the client of one connection may do, and who it is. Lives as long as any capability of the connection, on the
/// RPC's thread.
struct session_rights {
  /// For events: "user 0, process 123".
  std::string peer;
  /// Given up for good by Node.console.
  bool read_only = false;
};

inline caf::error refused_to_reader() {
  return make_error(errc::read_only, "this session was opened to read only");
}

/// The same for what changes something: refused with errc::read_only once the session has given that up.
template <class T, class Context, class Start, class Fill>
kj::Promise<void> serve_change(const session_rights& rights, Context context, Start start, Fill fill) {
  if (rights.read_only) {
    to_wire(context.getResults().initError(), refused_to_reader());
    return kj::READY_NOW;
  }
  return serve<T>(context, std::move(start), std::move(fill));
}

} // namespace varve
