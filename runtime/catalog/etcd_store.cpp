#include "runtime/catalog/etcd_store.hpp"

#include <algorithm>
#include <deque>
#include <future>
#include <set>
#include <vector>

#include "runtime/catalog/etcd_batch.hpp"
#include "runtime/catalog/etcd_client.hpp"
#include "runtime/catalog/etcd_keys.hpp"
#include "runtime/catalog/etcd_loop.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

/// The layout below the prefix; keys and values have a version of their own (records.hpp).
constexpr uint64_t format_version = 1;
/// Batches under way at a time; etcd syncs those that come together once.
constexpr size_t marks_max = 32;
/// How far back in the queue a batch may overtake others whose keys are apart from its own.
constexpr size_t look_ahead_max = 128;
/// Entries asked for at a time. Each is below etcd_request_bytes_max, so an answer stays within what gRPC takes.
constexpr size_t page_max = 512;
constexpr auto again_after = 200ms;

} // namespace

// All on the loop's thread.
class etcd_store::core : public std::enable_shared_from_this<core> {
public:
  core(etcd_client& client, etcd_store_options options) : client_(client), options_(std::move(options)) {}

  struct call {
    bool is_commit = false;
    catalog_batch batch;
    std::string prefix, after;
    size_t limit = 0;
    callback done;

    enum class stage : uint8_t { waiting, under_way, over } at = stage::waiting;
    clock_type::time_point asked_at = clock_type::now();
    catalog_result result;
    // Of a commit under way.
    etcd_batch transaction;
    size_t mark = 0;
    clock_type::time_point in_doubt_since;
  };
  using call_ptr = std::shared_ptr<call>;

  void push(call_ptr x) {
    calls_.push_back(std::move(x));
    pump();
  }
  void lead(etcd_leadership x, std::function<void(caf::error)> ready);
  void follow(std::string why);
  /// Calls `over` when all is answered; with `at_once` whatever the answers are.
  void finish(std::function<void()> over, bool at_once);
  std::chrono::nanoseconds patience() const { return options_.retry_for; }

private:
  /// A member function as the answer to a call to etcd or as a timer; not when the store has gone meanwhile.
  template <class F>
  auto then(F f) {
    return [self = shared_from_this(), f = std::move(f)](auto... x) {
      if (!self->gone_)
        f(*self, std::move(x)...);
    };
  }

  void pump();
  void end(const call_ptr& x, errc status, std::string context, uint64_t revision = 0);
  void answer_in_order();
  void check_format();

  void start_commit(const call_ptr& x);
  void send(const call_ptr& x);
  void on_sent(const call_ptr& x, const etcd_answer& answer);
  void resolve(const call_ptr& x, const std::string& why);
  void on_resolved(const call_ptr& x, const etcd_answer& answer, const std::string& why);
  void end_commit(const call_ptr& x, errc status, std::string context, uint64_t revision = 0);
  bool may_try_again(const call_ptr& x) const { return clock_type::now() < x->asked_at + options_.retry_for; }

  static std::string start_of(const call& x) {
    return std::max(x.prefix, x.after.empty() ? std::string{} : x.after + '\0');
  }
  void list_from(const call_ptr& x, std::string from, uint64_t revision);
  void on_page(const call_ptr& x, const etcd_answer& answer, uint64_t revision);

  etcd_client& client_;
  const etcd_store_options options_;
  std::deque<call_ptr> calls_;
  bool gone_ = false;
  std::function<void()> finished_;

  /// Who we are while leading; `created` 0: not.
  etcd_leadership leader_;
  /// The catalog's format was found good under this leadership.
  bool ready_ = false;
  std::function<void(caf::error)> on_ready_;
  std::string not_leading_ = "this node does not lead (yet)";
  uint64_t batches_ = 0;
  struct place {
    etcd_mark mark;
    bool taken = false;
  };
  std::vector<place> places_;
};

// -- leading ---------------------------------------------------------------------------------------------------------

void etcd_store::core::lead(etcd_leadership x, std::function<void(caf::error)> ready) {
  leader_ = std::move(x);
  ready_ = false;
  on_ready_ = std::move(ready);
  not_leading_ = "the catalog's format is being looked at";
  places_.clear();
  for (size_t i = 0; i < marks_max; ++i)
    places_.push_back(
      {{etcd_key::mark(options_.prefix, std::to_string(leader_.created), std::to_string(i)), 0}, false});
  check_format();
}

void etcd_store::core::follow(std::string why) {
  leader_ = {};
  ready_ = false;
  on_ready_ = nullptr;
  not_leading_ = std::move(why);
  pump();
}

void etcd_store::core::check_format() {
  const auto key = etcd_key::format(options_.prefix);
  etcd_transaction x;
  x.compare = {{leader_.key, etcd_comparison::subject::created, leader_.created},
               {key, etcd_comparison::subject::created, 0}};
  auto& put = x.then.emplace_back();
  put.of = etcd_operation::verb::put;
  put.key = key;
  put.value = encode(format_version);
  x.otherwise.emplace_back().key = key;
  client_.commit(x, then([created = leader_.created, key](core& self, const etcd_answer& x) {
                   if (self.leader_.created != created || self.ready_)
                     return;
                   if (x.status != errc::none || (!x.held && x.pages[0].entries.empty())) {
                     self.client_.loop().after(again_after, self.then([created](core& y) {
                       if (y.leader_.created == created && !y.ready_)
                         y.check_format();
                     }));
                     return;
                   }
                   uint64_t found = format_version;
                   caf::error problem;
                   if (!x.held)
                     problem = decode(x.pages[0].entries.front().value, found);
                   if (!problem && found > format_version)
                     problem =
                       make_error(errc::bad_format, "etcd: " + key + " says version " + std::to_string(found) +
                                                      ", this program knows up to " + std::to_string(format_version) +
                                                      ": use a newer varved, or another prefix");
                   self.ready_ = !problem;
                   if (problem)
                     self.not_leading_ = context_of(problem);
                   if (auto ready = std::exchange(self.on_ready_, nullptr))
                     ready(problem);
                   self.pump();
                 }));
}

// -- the queue -------------------------------------------------------------------------------------------------------

// Starts what may start: a list alone, commits together as long as their keys are apart, so that what is asked in
// order on a key is done in order.
void etcd_store::core::pump() {
  std::set<std::string> keys;
  size_t seen = 0;
  for (const auto& x : calls_) {
    if (x->at == call::stage::over)
      continue;
    if (++seen > look_ahead_max)
      break;
    if (x->at == call::stage::waiting && !ready_) {
      end(x, errc::unavailable, not_leading_);
      continue;
    }
    if (!x->is_commit) {
      if (seen == 1 && x->at == call::stage::waiting) {
        x->at = call::stage::under_way;
        list_from(x, start_of(*x), 0);
      }
      break;
    }
    std::set<std::string> own;
    for (const auto& c : x->batch.compare)
      own.insert(c.key);
    for (const auto& c : x->batch.changes)
      own.insert(c.key);
    const bool apart = std::none_of(own.begin(), own.end(), [&](auto& key) { return keys.count(key) != 0; });
    keys.merge(own);
    if (apart && x->at == call::stage::waiting)
      start_commit(x);
  }
  answer_in_order();
}

void etcd_store::core::end(const call_ptr& x, errc status, std::string context, uint64_t revision) {
  x->at = call::stage::over;
  x->result.status = status;
  x->result.context = std::move(context);
  if (status != errc::none)
    x->result.entries.clear();
  x->result.revision = revision;
}

void etcd_store::core::answer_in_order() {
  while (!calls_.empty() && calls_.front()->at == call::stage::over) {
    auto x = std::move(calls_.front());
    calls_.pop_front();
    x->done(std::move(x->result));
  }
  if (calls_.empty() && finished_)
    std::exchange(finished_, nullptr)();
}

void etcd_store::core::finish(std::function<void()> over, bool at_once) {
  finished_ = std::move(over);
  if (at_once) {
    for (const auto& x : calls_) {
      if (x->at == call::stage::under_way && x->is_commit)
        end(x, errc::timed_out, "the node stopped before etcd told whether the change was made");
      else if (x->at != call::stage::over)
        end(x, errc::unavailable, "the node stopped");
    }
    gone_ = true;
  }
  answer_in_order();
}

// -- commit ----------------------------------------------------------------------------------------------------------

void etcd_store::core::start_commit(const call_ptr& x) {
  const auto at = std::find_if(places_.begin(), places_.end(), [](auto& p) { return !p.taken; });
  if (at == places_.end())
    return;
  at->taken = true;
  x->at = call::stage::under_way;
  x->mark = static_cast<size_t>(at - places_.begin());
  keep_last_changes(x->batch);
  x->transaction = {leader_, etcd_key::catalog(options_.prefix), x->batch, {}};
  send(x);
}

void etcd_store::core::send(const call_ptr& x) {
  x->transaction.id = std::to_string(++batches_);
  client_.commit(x->transaction.make(places_[x->mark].mark),
                 then([x](core& self, const etcd_answer& answer) { self.on_sent(x, answer); }));
}

void etcd_store::core::on_sent(const call_ptr& x, const etcd_answer& answer) {
  if (answer.status != errc::none && answer.in_doubt) {
    x->in_doubt_since = clock_type::now();
    resolve(x, answer.context);
    return;
  }
  if (answer.status == errc::not_found) {
    end_commit(x, errc::unavailable, "this node does not lead any more: its lease has ended");
    return;
  }
  if (answer.status != errc::none) {
    end_commit(x, answer.status, answer.context);
    return;
  }
  // A leadership's places are made anew with it.
  const bool same = x->transaction.leader.created == leader_.created;
  etcd_mark unused;
  auto& mark = same ? places_[x->mark].mark : unused;
  const auto read = x->transaction.read_made(answer, mark);
  switch (read.what) {
  case etcd_batch::outcome::made:
    mark.revision = read.revision;
    end_commit(x, errc::none, {}, read.revision);
    break;
  case etcd_batch::outcome::refused:
    mark.revision = read.revision;
    end_commit(x, errc::conflict, read.key, answer.revision);
    break;
  case etcd_batch::outcome::again:
    mark.revision = read.revision;
    if (same && may_try_again(x)) {
      send(x);
      break;
    }
    [[fallthrough]];
  case etcd_batch::outcome::deposed:
    end_commit(x, errc::unavailable, "this node does not lead any more: another manager does");
    break;
  default: end_commit(x, errc::device_failed, "etcd contradicts itself about " + mark.key); break;
  }
}

void etcd_store::core::resolve(const call_ptr& x, const std::string& why) {
  if (x->transaction.leader.created != leader_.created) {
    end_commit(x, errc::timed_out,
               "this node does not lead any more, and etcd did not tell whether the change was made: " + why);
    return;
  }
  client_.commit(x->transaction.take_place(places_[x->mark].mark),
                 then([x, why](core& self, const etcd_answer& answer) { self.on_resolved(x, answer, why); }));
}

void etcd_store::core::on_resolved(const call_ptr& x, const etcd_answer& answer, const std::string& why) {
  const bool same = x->transaction.leader.created == leader_.created;
  if (answer.status != errc::none) {
    if (same && answer.status != errc::not_found && clock_type::now() < x->in_doubt_since + options_.resolve_for)
      client_.loop().after(again_after, then([x, why](core& self) { self.resolve(x, why); }));
    else
      end_commit(x, errc::timed_out, "etcd did not tell whether the change was made: " + answer.context);
    return;
  }
  const auto read = x->transaction.read_taken(answer);
  if (same && read.revision != 0)
    places_[x->mark].mark.revision = read.revision;
  if (read.what == etcd_batch::outcome::made)
    end_commit(x, errc::none, {}, read.revision);
  else if (read.what == etcd_batch::outcome::unknown)
    end_commit(x, errc::timed_out, "the leader's lease ended before etcd told whether the change was made: " + why);
  else if (same && may_try_again(x))
    send(x);
  else
    end_commit(x, errc::unavailable, why + "; nothing was changed");
}

void etcd_store::core::end_commit(const call_ptr& x, errc status, std::string context, uint64_t revision) {
  if (x->transaction.leader.created == leader_.created)
    places_[x->mark].taken = false;
  end(x, status, std::move(context), revision);
  pump();
}

// -- list ------------------------------------------------------------------------------------------------------------

// One page after the other, all as of the revision of the first.
void etcd_store::core::list_from(const call_ptr& x, std::string from, uint64_t revision) {
  const auto base = etcd_key::catalog(options_.prefix);
  etcd_transaction t;
  t.compare = {{leader_.key, etcd_comparison::subject::created, leader_.created}};
  auto& get = t.then.emplace_back();
  get.key = base + from;
  get.end = etcd_prefix_end(base + x->prefix);
  // Nothing is asked for beyond the end; a limit of 0 would be none.
  get.limit = std::clamp<size_t>(x->limit - x->result.entries.size(), 1, page_max);
  get.revision = revision;
  client_.commit(t, then([x, revision](core& self, const etcd_answer& a) { self.on_page(x, a, revision); }));
}

void etcd_store::core::on_page(const call_ptr& x, const etcd_answer& answer, uint64_t revision) {
  const auto start_over = [&](std::chrono::nanoseconds delay) {
    client_.loop().after(delay, then([x](core& self) {
                           if (self.ready_) {
                             self.list_from(x, self.start_of(*x), 0);
                           } else {
                             self.end(x, errc::unavailable, self.not_leading_);
                             self.pump();
                           }
                         }));
    x->result.entries.clear();
  };
  if (answer.status != errc::none) {
    // Compacted (bad_format) while it was read page by page: from the start.
    if ((answer.in_doubt || answer.status == errc::bad_format) && may_try_again(x)) {
      start_over(answer.in_doubt ? std::chrono::nanoseconds{again_after} : 0ns);
      return;
    }
    end(x, answer.status, answer.context);
  } else if (!answer.held) {
    end(x, errc::unavailable, "this node does not lead any more: another manager does");
  } else {
    const auto cut = etcd_key::catalog(options_.prefix).size();
    const auto& page = answer.pages[0];
    for (const auto& e : page.entries)
      if (x->result.entries.size() < x->limit)
        x->result.entries.push_back({e.key.substr(cut), e.value, e.mod_revision});
    const auto as_of = revision != 0 ? revision : answer.revision;
    if (page.more && x->result.entries.size() < x->limit && ready_) {
      list_from(x, x->result.entries.back().key + '\0', as_of);
      return;
    }
    end(x, errc::none, {}, as_of);
  }
  pump();
}

// -- the face --------------------------------------------------------------------------------------------------------

etcd_store::etcd_store(etcd_client& client, etcd_store_options options)
  : client_(client), core_(std::make_shared<core>(client, std::move(options))) {}

void etcd_store::drain() {
  auto over = std::make_shared<std::promise<void>>();
  client_.loop().post([core = core_, over] { core->finish([over] { over->set_value(); }, false); });
  over->get_future().wait_for(core_->patience());
}

etcd_store::~etcd_store() {
  drain();
  client_.loop().run_here([core = core_] { core->finish([] {}, true); });
}

void etcd_store::commit(catalog_batch batch, callback done) {
  auto x = std::make_shared<core::call>();
  x->is_commit = true;
  x->batch = std::move(batch);
  x->done = std::move(done);
  client_.loop().post([core = core_, x] { core->push(x); });
}

void etcd_store::list(std::string prefix, std::string after, size_t limit, callback done) {
  auto x = std::make_shared<core::call>();
  x->prefix = std::move(prefix);
  x->after = std::move(after);
  x->limit = limit;
  x->done = std::move(done);
  client_.loop().post([core = core_, x] { core->push(x); });
}

void etcd_store::lead(etcd_leadership leadership, std::function<void(caf::error)> ready) {
  client_.loop().post([core = core_, leadership, ready] { core->lead(leadership, ready); });
}

void etcd_store::follow(std::string why) {
  client_.loop().post([core = core_, why] { core->follow(why); });
}

} // namespace varve
