// Coroutines that a crash ended never come back for their frames.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}
