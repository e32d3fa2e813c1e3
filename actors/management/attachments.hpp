#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using attachments_self = attachments_actor::extend_with<inspected_actor>;

/// Passes on to the host of a node what is asked for there. A host that is lost while it works is not waited for: its
/// volumes stay attached, unless a forced detach says that it is given up.
class attachments_state {
public:
  static inline const char* name = "varve.attachments";
  explicit attachments_state(attachments_self::pointer self) : self_(self) {}
  attachments_self::behavior_type make_behavior(context_ptr context);

private:
  using attach_promise = caf::typed_response_promise<attachment>;
  using done_promise = caf::typed_response_promise<void>;
  using list_promise = caf::typed_response_promise<std::vector<attachment>>;
  using refusal = std::function<void(const caf::error&)>;

  attach_promise attach(volume_id volume, const std::string& host, bool shared);
  done_promise detach(volume_id volume, const std::string& host, bool force);
  done_promise resize(volume_id volume, uint64_t size_bytes);
  list_promise list();
  actor_facts facts() const;

  /// The names of all hosts.
  std::vector<std::string> hosts() const;
  host_supervisor_actor host(const std::string& name) const;
  void detach_at(volume_id volume, const volume_attachment& at, bool force, done_promise promise);
  /// Of a host that does not answer, by request: storage fences what it still holds, whoever wants it next.
  void give_up(volume_id volume, const volume_attachment& at, done_promise promise);
  void find(volume_id volume, std::function<void(const volume_record&)> then, refusal refused);
  /// Asks a host; exactly one of the two is called, also when the host is lost.
  template <class Answer, class F, class... Ts>
  void ask(const std::string& name, caf::timespan patience, F done, refusal refused, Ts... what);
  void on_down(const caf::down_msg& x);

  attachments_self::pointer self_;
  context_ptr context_;
  struct question {
    caf::actor_addr host;
    std::string name;
    refusal refused;
  };
  std::map<uint64_t, question> questions_; // that wait for their answers
  uint64_t asked_ = 0;
  std::set<caf::actor_addr> watched_; // whose end would be told
};

attachments_self::behavior_type attachments(attachments_self::stateful_pointer<attachments_state> self,
                                            context_ptr context);

} // namespace varve
