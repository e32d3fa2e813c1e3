#include "runtime/reactor/task.hpp"

namespace varve::detail {

namespace {

// Frames are recycled by size class; larger ones are rare (they hold arrays) and go to the allocator.
constexpr size_t granule = 64;
constexpr size_t recycled_size_max = 4096;
constexpr size_t classes = recycled_size_max / granule;
// A burst of requests must not pin its peak of memory for ever: at most this many idle frames of each class and thread.
constexpr unsigned idle_max = 1024;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool recycling = false; // so that a use after free is seen
#else
constexpr bool recycling = true;
#endif

struct idle_frame {
  idle_frame* next;
};

struct idle_list {
  idle_frame* first;
  unsigned count;
};

enum class thread_phase : uint8_t { fresh, keeping, ended };

// Plain data, so that an access is a plain load; `janitor` frees it when the thread ends.
constinit thread_local idle_list idle[classes] = {};
constinit thread_local thread_phase phase = thread_phase::fresh;

struct janitor {
  ~janitor() {
    // Frames that are destroyed after this (by other thread-local objects) are not kept.
    phase = thread_phase::ended;
    for (auto& list : idle)
      while (auto* frame = list.first) {
        list.first = frame->next;
        ::operator delete(frame);
      }
  }
};

void keep_from_now_on() {
  thread_local janitor at_thread_end;
  (void)at_thread_end;
  phase = thread_phase::keeping;
}

constexpr size_t class_of(size_t size) {
  return (size - 1) / granule;
}

} // namespace

void* take_frame(size_t size) {
  if (!recycling || size == 0 || size > recycled_size_max)
    return ::operator new(size);
  auto index = class_of(size);
  auto& list = idle[index];
  if (auto* frame = list.first) {
    list.first = frame->next;
    --list.count;
    return frame;
  }
  return ::operator new((index + 1) * granule);
}

void give_frame(void* frame, size_t size) noexcept {
  if (!recycling || size == 0 || size > recycled_size_max || phase == thread_phase::ended)
    return ::operator delete(frame);
  if (phase == thread_phase::fresh)
    keep_from_now_on();
  auto& list = idle[class_of(size)];
  if (list.count == idle_max)
    return ::operator delete(frame);
  list.first = new (frame) idle_frame{list.first};
  ++list.count;
}

} // namespace varve::detail
