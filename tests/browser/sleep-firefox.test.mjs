// Sleep and wake in Firefox.

import { testSleepAndWake } from './sleep-and-wake.mjs';

testSleepAndWake('firefox');
