// What the page remembers from one visit to the next; browsers may refuse it, and then it forgets.

const PREFIX = "vaelab explorer ";

export function loadSetting(key) {
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

export function saveSetting(key, text) {
  try {
    localStorage.setItem(PREFIX + key, text);
  } catch {
    // Private windows and blocked storage: the choice holds for this visit.
  }
}
