#include "actors/storage/mover.hpp"

#include <utility>

#include "runtime/caf/reporting.hpp"

namespace varve {

mover_self::behavior_type mover(mover_self::stateful_pointer<mover_state> self, context_ptr context,
                                std::shared_ptr<move_book> book) {
  return self->state.make_behavior(std::move(context), std::move(book));
}

mover_self::behavior_type mover_state::make_behavior(context_ptr context, std::shared_ptr<move_book> book) {
  context_ = std::move(context);
  book_ = std::move(book);
  return {
    [this](atom::start, mover_term term, const move_ends& ends) -> caf::result<void> {
      if (auto refused = check(term))
        return refused;
      return start(ends);
    },
    [this](atom::copy, mover_term term, const move_ends& ends, uint64_t bytes_max) -> caf::result<copy_round> {
      if (auto refused = check(term))
        return refused;
      return copy(ends, bytes_max);
    },
    [this](atom::seal, mover_term term, const move_ends& ends) -> caf::result<switch_result> {
      if (auto refused = check(term))
        return refused;
      return seal(ends);
    },
    [this](atom::end, mover_term term, const move_ends& ends, bool committed) -> caf::result<caf::timespan> {
      if (auto refused = check(term))
        return refused;
      return end(ends, committed);
    },
    [](const returned& x) { x.run(); },
    [this](atom::report) {
      return report_of(self_, {count_fact("term", book_->highest().value()), count_fact("starting", starting_.size()),
                               count_fact("copying", copying_.size()), count_fact("sealing", sealing_.size()),
                               count_fact("ending", committing_.size() + aborting_.size())});
    },
  };
}

caf::error mover_state::check(mover_term term) {
  if (book_->admits(term))
    return {};
  return make_error(errc::stale_epoch, "moves are commanded under term " + std::to_string(book_->highest().value()) +
                                         ", not " + std::to_string(term.value()) + " any more");
}

caf::typed_response_promise<void> mover_state::start(const move_ends& ends) {
  auto promise = self_->make_response_promise<void>();
  if (join(starting_, ends.id, promise))
    context_->plane->begin_move(ends, returning<errc>(self_, [this, id = ends.id](errc status) {
                                  answer(starting_, id, [&](auto& waits) {
                                    if (status == errc::none)
                                      deliver_done(waits);
                                    else
                                      waits.deliver(make_error(status, "beginning to copy"));
                                  });
                                }));
  return promise;
}

caf::typed_response_promise<copy_round> mover_state::copy(const move_ends& ends, uint64_t bytes_max) {
  auto promise = self_->make_response_promise<copy_round>();
  if (join(copying_, ends.id, promise))
    context_->plane->copy_some(ends, bytes_max, returning<copy_round>(self_, [this, id = ends.id](const copy_round& x) {
                                 answer(copying_, id, [&](auto& waits) { waits.deliver(x); });
                               }));
  return promise;
}

caf::typed_response_promise<switch_result> mover_state::seal(const move_ends& ends) {
  auto promise = self_->make_response_promise<switch_result>();
  if (join(sealing_, ends.id, promise))
    context_->plane->switch_move(ends, returning<switch_result>(self_, [this, id = ends.id](const switch_result& x) {
                                   answer(sealing_, id, [&](auto& waits) { waits.deliver(x); });
                                 }));
  return promise;
}

caf::typed_response_promise<caf::timespan> mover_state::end(const move_ends& ends, bool committed) {
  auto promise = self_->make_response_promise<caf::timespan>();
  auto& acts = committed ? committing_ : aborting_;
  if (join(acts, ends.id, promise))
    context_->plane->end_move(ends, committed,
                              returning<errc, std::chrono::nanoseconds>(
                                self_, [this, id = ends.id, &acts](errc status, std::chrono::nanoseconds closed) {
                                  answer(acts, id, [&](auto& waits) {
                                    if (status == errc::none || status == errc::not_found)
                                      waits.deliver(caf::timespan{closed});
                                    else
                                      waits.deliver(make_error(status, "ending the move"));
                                  });
                                }));
  return promise;
}

template <class T>
bool mover_state::join(waiting<T>& acts, migration_id id, caf::typed_response_promise<T> promise) {
  auto& all = acts[id];
  all.push_back(std::move(promise));
  return all.size() == 1;
}

template <class T, class F>
void mover_state::answer(waiting<T>& acts, migration_id id, F f) {
  auto at = acts.find(id);
  if (at == acts.end())
    return;
  auto all = std::move(at->second);
  acts.erase(at);
  for (auto& x : all)
    f(x);
}

} // namespace varve
