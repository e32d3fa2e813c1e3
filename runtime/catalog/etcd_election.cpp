#include "runtime/catalog/etcd_election.hpp"

#include <future>

#include <nlohmann/json.hpp>
#include <time.h>

#include "runtime/catalog/etcd_client.hpp"
#include "runtime/catalog/etcd_keys.hpp"
#include "runtime/catalog/etcd_loop.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;

/// Between two tries of what failed.
constexpr auto again_after = 300ms;

/// Goes on while the machine sleeps, as etcd's clock does.
std::chrono::nanoseconds now() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec};
}

/// Who leads, as the leader's key tells.
struct leader {
  std::string name, identity;
  uint64_t incarnation = 0;
};

std::string encode(const leader& x) {
  return nlohmann::json{{"name", x.name}, {"identity", x.identity}, {"incarnation", x.incarnation}}.dump(
    -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

leader decode_leader(const std::string& value) {
  const auto x = nlohmann::json::parse(value, nullptr, false);
  leader result;
  if (x.is_object()) {
    if (auto at = x.find("name"); at != x.end() && at->is_string())
      result.name = at->get<std::string>();
    if (auto at = x.find("identity"); at != x.end() && at->is_string())
      result.identity = at->get<std::string>();
    if (auto at = x.find("incarnation"); at != x.end() && at->is_number_unsigned())
      result.incarnation = at->get<uint64_t>();
  }
  return result;
}

etcd_operation get(std::string key) {
  etcd_operation x;
  x.key = std::move(key);
  return x;
}

etcd_operation put(std::string key, std::string value, int64_t lease = 0) {
  etcd_operation x;
  x.of = etcd_operation::verb::put;
  x.key = std::move(key);
  x.value = std::move(value);
  x.lease = lease;
  return x;
}

} // namespace

// All on the loop's thread. Each wait carries the round for which it waits: what comes late, of a round that is over,
// does nothing.
class etcd_election::core : public std::enable_shared_from_this<core> {
public:
  core(etcd_client& client, etcd_election_options options, etcd_election_events events)
    : client_(client), options_(std::move(options)), events_(std::move(events)),
      leader_key_(etcd_key::leader(options_.prefix)),
      incarnation_key_(etcd_key::catalog(options_.prefix) + key::incarnation) {}

  void look();
  /// Ends; `over` is called when the lease is given back.
  void resign(std::function<void()> over);

private:
  // A method as the answer to a call, unless the round is over by then.
  template <class F>
  auto in_round(F f) {
    return [self = shared_from_this(), round = round_, f = std::move(f)](auto... x) {
      if (!self->over_ && self->round_ == round)
        f(*self, std::move(x)...);
    };
  }
  void next_round() {
    ++round_;
    watch_.reset();
  }
  void look_again(std::chrono::nanoseconds delay = again_after) {
    next_round();
    client_.loop().after(delay, in_round([](core& x) { x.look(); }));
  }
  void tell_waiting(const std::string& why) {
    if (why != waiting_for_ && events_.waiting)
      events_.waiting(why);
    waiting_for_ = why;
  }

  void on_leader(const etcd_entry& x, uint64_t revision);
  void take_lease(uint64_t incarnation, uint64_t incarnation_revision);
  void run(uint64_t incarnation, uint64_t incarnation_revision);
  void lead(uint64_t created, uint64_t incarnation);
  void keep_alive();
  void check_term();
  void watch_own_key(uint64_t from);
  void look_at_own_key();
  void lose(const std::string& why);
  etcd_leadership held() const { return {leader_key_, created_, lease_, incarnation_, good_until_}; }
  void renewed(std::chrono::nanoseconds asked_at, std::chrono::seconds term) {
    term_ = term;
    good_until_ = asked_at + std::chrono::nanoseconds{term} * 9 / 10;
  }

  etcd_client& client_;
  const etcd_election_options options_;
  const etcd_election_events events_;
  const std::string leader_key_, incarnation_key_;
  bool over_ = false;
  uint64_t round_ = 0;
  std::unique_ptr<etcd_watch_handle> watch_;
  /// 0: none. It may have ended.
  int64_t lease_ = 0;
  std::chrono::seconds term_{0};
  std::chrono::nanoseconds good_until_{0};
  bool leading_ = false;
  uint64_t created_ = 0, incarnation_ = 0;
  std::string trouble_, waiting_for_;
};

void etcd_election::core::look() {
  next_round();
  etcd_transaction x;
  x.then = {get(leader_key_), get(incarnation_key_)};
  client_.commit(x, in_round([](core& self, const etcd_answer& x) {
                   if (x.status != errc::none) {
                     self.tell_waiting(x.context);
                     self.look_again();
                     return;
                   }
                   if (!x.pages[0].entries.empty()) {
                     self.on_leader(x.pages[0].entries.front(), x.revision);
                     return;
                   }
                   uint64_t last = 0, revision = 0;
                   if (!x.pages[1].entries.empty()) {
                     const auto& found = x.pages[1].entries.front();
                     revision = found.mod_revision;
                     if (decode(found.value, last) || last >= UINT32_MAX) {
                       self.tell_waiting("etcd: " + self.incarnation_key_ + " is \"" + found.value +
                                         "\": expected a number below 2^32");
                       self.look_again(1s);
                       return;
                     }
                   }
                   self.take_lease(last + 1, revision);
                 }));
}

void etcd_election::core::on_leader(const etcd_entry& x, uint64_t revision) {
  const auto found = decode_leader(x.value);
  if (lease_ != 0 && x.lease == lease_) {
    // It was us: the answer was lost.
    lead(x.create_revision, found.incarnation);
    return;
  }
  if (!options_.identity.empty() && found.identity == options_.identity && x.lease != 0) {
    tell_waiting("taking over from the process before");
    client_.revoke(x.lease, in_round([](core& self, const etcd_lease& answer) {
                     self.look_again(answer.status == errc::none ? 0ms : again_after);
                   }));
    return;
  }
  tell_waiting("node " + found.name + " leads");
  watch_ = client_.watch(leader_key_, revision + 1, in_round([](core& self, const etcd_watch_report& report) {
                           // Whatever happened, also compaction: what is so now is read, and watched from there on.
                           if (report.status != errc::none)
                             self.look_again();
                           else if (!report.events.empty())
                             self.look_again(0ms);
                         }));
}

void etcd_election::core::take_lease(uint64_t incarnation, uint64_t incarnation_revision) {
  if (lease_ != 0 && now() < good_until_) {
    run(incarnation, incarnation_revision);
    return;
  }
  lease_ = 0;
  client_.grant(options_.term,
                in_round([asked_at = now(), incarnation, incarnation_revision](core& self, const etcd_lease& x) {
                  if (x.status != errc::none) {
                    self.tell_waiting(x.context);
                    self.look_again();
                    return;
                  }
                  self.lease_ = x.id;
                  self.renewed(asked_at, x.term);
                  self.run(incarnation, incarnation_revision);
                }));
}

void etcd_election::core::run(uint64_t incarnation, uint64_t incarnation_revision) {
  etcd_transaction x;
  x.compare = {{leader_key_, etcd_comparison::subject::created, 0},
               {incarnation_key_, etcd_comparison::subject::modified, incarnation_revision}};
  x.then = {put(leader_key_, encode(leader{options_.name, options_.identity, incarnation}), lease_),
            put(incarnation_key_, varve::encode(incarnation))};
  client_.commit(x, in_round([incarnation](core& self, const etcd_answer& x) {
                   if (x.status == errc::none && x.held) {
                     self.lead(x.revision, incarnation);
                     return;
                   }
                   if (x.status == errc::none) {
                     self.look_again(0ms);
                     return;
                   }
                   if (!x.in_doubt)
                     self.lease_ = 0;
                   self.tell_waiting(x.context);
                   self.look_again();
                 }));
}

void etcd_election::core::lead(uint64_t created, uint64_t incarnation) {
  next_round();
  if (now() >= good_until_) {
    // Found late that we lead: not any more for sure.
    const auto lease = std::exchange(lease_, 0);
    client_.revoke(lease, in_round([](core& self, const etcd_lease&) { self.look_again(); }));
    return;
  }
  leading_ = true;
  created_ = created;
  incarnation_ = incarnation;
  trouble_.clear();
  waiting_for_.clear();
  watch_own_key(created + 1);
  client_.loop().after(std::chrono::nanoseconds{term_} / 3, in_round([](core& x) { x.keep_alive(); }));
  check_term();
  events_.leading(held());
}

void etcd_election::core::keep_alive() {
  client_.keep_alive(lease_, in_round([asked_at = now()](core& self, const etcd_lease& x) {
                       if (x.status == errc::not_found) {
                         self.lose(x.context);
                         return;
                       }
                       const std::chrono::nanoseconds term = self.term_;
                       if (x.status == errc::none) {
                         self.renewed(asked_at, x.term);
                         if (self.events_.renewed)
                           self.events_.renewed(self.held());
                         self.trouble_.clear();
                       } else {
                         self.trouble_ = x.context;
                       }
                       self.client_.loop().after(
                         x.status == errc::none ? term / 3 : std::min<std::chrono::nanoseconds>(again_after, term / 10),
                         self.in_round([](core& y) { y.keep_alive(); }));
                     }));
}

void etcd_election::core::check_term() {
  if (now() >= good_until_)
    lose("the leader's lease could not be renewed: " +
         (trouble_.empty() ? std::string{"etcd does not answer"} : trouble_));
  else
    client_.loop().after(good_until_ - now(), in_round([](core& x) { x.check_term(); }));
}

void etcd_election::core::watch_own_key(uint64_t from) {
  watch_ =
    client_.watch(leader_key_, from, in_round([](core& self, const etcd_watch_report& report) {
                    if (report.status != errc::none)
                      self.client_.loop().after(again_after, self.in_round([](core& x) { x.look_at_own_key(); }));
                    else if (!report.events.empty())
                      self.look_at_own_key();
                  }));
}

void etcd_election::core::look_at_own_key() {
  etcd_transaction x;
  x.then = {get(leader_key_)};
  client_.commit(x, in_round([](core& self, const etcd_answer& x) {
                   if (x.status != errc::none) {
                     // The term decides meanwhile.
                     self.client_.loop().after(again_after, self.in_round([](core& y) { y.look_at_own_key(); }));
                   } else if (x.pages[0].entries.empty() ||
                              x.pages[0].entries.front().create_revision != self.created_) {
                     self.lose("the leader's key was removed");
                   } else {
                     self.watch_own_key(x.revision + 1);
                   }
                 }));
}

void etcd_election::core::lose(const std::string& why) {
  next_round();
  leading_ = false;
  events_.lost(why);
  // Its marks go with it; it may be long gone.
  client_.revoke(std::exchange(lease_, 0), [](const etcd_lease&) {});
  look_again(0ms);
}

void etcd_election::core::resign(std::function<void()> over) {
  next_round();
  over_ = true;
  if (lease_ == 0)
    over();
  else
    client_.revoke(lease_, [over](const etcd_lease&) { over(); });
}

etcd_election::etcd_election(etcd_client& client, etcd_election_options options, etcd_election_events events)
  : client_(client), core_(std::make_shared<core>(client, std::move(options), std::move(events))) {
  client_.loop().post([core = core_] { core->look(); });
}

etcd_election::~etcd_election() {
  std::promise<void> over;
  client_.loop().post([&] { core_->resign([&] { over.set_value(); }); });
  over.get_future().wait(); // the call has a deadline
}

} // namespace varve
