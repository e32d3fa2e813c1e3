#include <chrono>
#include <iostream>
#include <string>

#include <caf/all.hpp>

// Goal: ThreadSanitizer sees neither races where CAF orders what actors do, nor an order where there is none
// (tests/tsan_caf.cpp). Method: actors hand on strings, some of them late, until each has had them all; with an
// argument two of them also count in one variable, which is a race.

namespace {

int arrived = 0; // the last actor's
int counted = 0;

struct config : caf::actor_system_config {
  config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", size_t{4});
  }
};

caf::behavior last(caf::event_based_actor*) {
  return {[](const std::string& x, int) { arrived += x.size() == 100 ? 1 : 0; }};
}

struct relay {
  int passed = 0;
};

caf::behavior pass_on(caf::stateful_actor<relay>* self, caf::actor next, bool racing) {
  return {[=](const std::string& x, int n) {
    ++self->state.passed;
    if (racing)
      ++counted;
    if (n % 3)
      self->send(next, x, n);
    else
      self->delayed_send(next, std::chrono::milliseconds{1}, x, n);
  }};
}

} // namespace

int main(int argc, char**) {
  // Of a race enough that two threads meet in it: not each run of 300 had them.
  const int messages = argc > 1 ? 6000 : 300;
  config options;
  {
    caf::actor_system system{options};
    auto end = system.spawn(last);
    auto second = system.spawn(pass_on, end, argc > 1);
    auto first = system.spawn(pass_on, second, argc > 1);
    for (auto n = 0; n < messages; ++n) {
      // Both read the same string; who is the later deletes it.
      const auto both = caf::make_message(std::string(100, 'x'), n);
      caf::anon_send(first, both);
      caf::anon_send(second, both);
    }
    // Who is not known any more ends once it has read everything; the system waits for them all.
  }
  std::cout << arrived << " arrived\n";
  return arrived == 2 * messages ? 0 : 1;
}
