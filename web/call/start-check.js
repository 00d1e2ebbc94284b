/*
 * Says that the page cannot run in this browser. A script of its own in the syntax of 2009 (ES5),
 * because an old browser cannot read the other scripts. The other scripts set `data-started`.
 */
(function () {
  'use strict';
  /** Shows a text of the document in the language of the browser. @param {'page' | 'webrtc'} problem */
  function say(problem) {
    var find = document.querySelector.bind(document);
    var texts = '#start-problem [data-problem="' + problem + '"]';
    var language = (navigator.language || 'en').slice(0, 2).toLowerCase();
    /** @type {Element} */ (find(texts + '[lang="' + language + '"]') || find(texts)).removeAttribute('hidden');
    /** @type {Element} */ (find('#start-problem')).removeAttribute('hidden');
    /** @type {Element} */ (find('#start-page')).setAttribute('hidden', '');
  }

  // A script of type "module" has ended or failed before this event.
  window.addEventListener('load', function () {
    if (!window.RTCPeerConnection) say('webrtc');
    else if (!document.documentElement.hasAttribute('data-started')) say('page');
  });
})();
