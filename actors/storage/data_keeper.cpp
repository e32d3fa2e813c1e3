#include "actors/storage/data_keeper.hpp"

#include "runtime/caf/reporting.hpp"
#include "runtime/remote/remote_io.hpp"

namespace varve {

data_keeper_self::behavior_type data_keeper(data_keeper_self::stateful_pointer<data_keeper_state> self,
                                            context_ptr context, std::shared_ptr<key_book> book) {
  return self->state.make_behavior(std::move(context), std::move(book));
}

data_keeper_self::behavior_type data_keeper_state::make_behavior(context_ptr context, std::shared_ptr<key_book> book) {
  context_ = std::move(context);
  book_ = std::move(book);
  return {
    [this](atom::get, const data_access_request& x) { return get(x); },
    [this](atom::report) { return report_of(self_, {count_fact("keys", book_->keys())}); },
  };
}

caf::result<data_access> data_keeper_state::get(const data_access_request& x) {
  key_book::answer answer;
  if (auto refused = book_->give(context_->options.cluster, x, context_->now(), term, answer))
    return refused;
  for (const auto& old : answer.revoked)
    context_->remote->disallow(old.reactor, old.key);
  data_access result;
  result.term = term;
  for (uint32_t i = 0; i < answer.keys.size(); ++i) {
    const auto& key = answer.keys[i];
    context_->remote->allow(i, key);
    result.keys.push_back(
      {key.id, {reinterpret_cast<const char*>(key.secret.data()), key.secret.size()}, static_cast<uint16_t>(i)});
  }
  return result;
}

} // namespace varve
